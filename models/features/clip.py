"""The image tower of CLIP ViT-L/14@336, which CMMD is defined by (arXiv 2401.09603)."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import normalize

from tenshot.errors import InputError
from tenshot.models.features.network import FeatureNetwork
from tenshot.models.features.vision_transformer import VisionTransformer, ViTConfig
from tenshot.models.pretrained import fill, given_file, read_state_dict, sha256

__all__ = ["CLIPFeatures"]

URL = "https://huggingface.co/openai/clip-vit-large-patch14-336 (its model.safetensors)"
CONFIG = ViTConfig(
    patches=24, width=1024, depth=24, activation="quick_gelu", layer_scale=False, first_norm=True, eps=1e-5,
    out_channels=768,
)  # fmt: skip
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

_TRANSFORMERS = {
    "embeddings.class_embedding": "class_token", "embeddings.patch_embedding": "patch",
    "embeddings.position_embedding.weight": "positions", "pre_layrnorm": "first_norm", "post_layernorm": "norm",
    "self_attn.out_proj": "proj", "layer_norm1": "norm1", "layer_norm2": "norm2", "mlp.fc1": "fc1", "mlp.fc2": "fc2",
}  # fmt: skip
_OPENAI = {
    "class_embedding": "class_token", "conv1": "patch", "positional_embedding": "positions", "ln_pre": "first_norm",
    "ln_post": "norm", "attn.in_proj": "qkv", "attn.out_proj": "proj", "ln_1": "norm1", "ln_2": "norm2",
    "mlp.c_fc": "fc1", "mlp.c_proj": "fc2",
}  # fmt: skip


class CLIPFeatures(FeatureNetwork):
    """CLIP's embedding of images, of length 1.

    Images are resized to 336 px, bicubic and antialiased, which is not rounded, as in CMMD's code.

    Args:
        weights: File of the image tower, or of all of CLIP, under the names of transformers (``vision_model.…``) or of
            OpenAI and open_clip (``visual.…``); not OpenAI's own file, which is a program.

    Raises:
        InputError: None is given; no such file, or one of another network.
    """

    def __init__(self, weights: str | None) -> None:
        file = given_file("clip", weights, URL)
        super().__init__("clip", sha256(file), published=False, resize="bicubic to 336, antialiased")
        with torch.device("meta"):
            network = VisionTransformer(CONFIG)
        state = _translated(read_state_dict(file), str(file))
        self.network = fill(network.to_empty(device="cpu"), state, str(file))
        self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1]  ->  (N, 768)"""
        side = self.network.side
        x = F.interpolate((x.float() + 1) / 2, (side, side), mode="bicubic", antialias=True, align_corners=False)
        return F.normalize(self.network(normalize(x, list(MEAN), list(STD))), dim=1)


def _translated(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """The image tower's tensors under our names; unknown ones keep theirs, which is said later."""
    if any(key.startswith("vision_model.") for key in state):
        return _of_transformers(state)
    tower = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    if not tower:
        raise InputError(f"{where}: neither vision_model.… nor visual.… is in it: give the file of {URL}")
    ours = {}
    for key, value in tower.items():
        match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", key)
        if key == "proj":
            ours["out.weight"] = value.T
        elif match and match[2] in _OPENAI:
            ours[f"blocks.{match[1]}.{_OPENAI[match[2]]}.{match[3]}"] = value
        else:
            ours[_ours(key, _OPENAI)] = value
    return {key: value.float() for key, value in ours.items()}


def _of_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    ours, separate = {}, {}
    for key, value in state.items():
        name = key.removeprefix("vision_model.")
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if key == "visual_projection.weight":
            ours["out.weight"] = value
        elif name == key or name == "embeddings.position_ids":  # the text tower's, and no weights
            continue
        elif match and match[2] in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            separate[f"blocks.{match[1]}.qkv.{match[3]}", match[2][-6]] = value
        elif match and match[2] in _TRANSFORMERS:
            ours[f"blocks.{match[1]}.{_TRANSFORMERS[match[2]]}.{match[3]}"] = value
        else:
            ours[_ours(name, _TRANSFORMERS)] = value
    for name in dict.fromkeys(name for name, _ in separate):
        ours[name] = torch.cat([separate[name, part] for part in "qkv" if (name, part) in separate])
    return {key: value.float() for key, value in ours.items()}


def _ours(key: str, names: dict[str, str]) -> str:
    """Our name of a tensor outside the blocks."""
    module, _, leaf = key.rpartition(".")
    return names.get(key) or (f"{names[module]}.{leaf}" if module in names else key)
