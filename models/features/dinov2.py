"""DINOv2's features, in which people's judgement of generated images is best followed (arXiv 2306.04675)."""

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import normalize

from tenshot.errors import InputError
from tenshot.models.features.network import FeatureNetwork
from tenshot.models.features.resize import resize_like_pillow
from tenshot.models.features.vision_transformer import VisionTransformer, ViTConfig
from tenshot.models.pretrained import broken_named, fill, given_file, read_state_dict, sha256

__all__ = ["DINOv2Features"]

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
NAMES = {384: "dinov2_vits14", 768: "dinov2_vitb14", 1024: "dinov2"}
"""By width: published distances are of ViT-L/14."""

PATCHES = 16  # at 224 px; files are of 37
OFFSET = 0.1
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as fractions of 255

_FIXED = {"patch_embed.proj": "patch", "norm": "norm"}
_BLOCK = {
    "norm1": "norm1", "norm2": "norm2", "attn.qkv": "qkv", "attn.proj": "proj", "mlp.fc1": "fc1", "mlp.fc2": "fc2",
}  # fmt: skip


class DINOv2Features(FeatureNetwork):
    """The class token of ViT-L/14 (``dinov2``), ViT-B/14 (``dinov2_vitb14``) or ViT-S/14 (``dinov2_vits14``).

    Images are resized to 224 px as Pillow's bicubic filter does, and normalised by ImageNet's mean and standard
    deviation, as in the code of Stein et al. (arXiv 2306.04675). Embeddings of positions are interpolated from 37 x 37
    as DINOv2's code does.

    Args:
        weights: Their file, ``dinov2_vitl14_pretrain.pth`` or another size's.

    Raises:
        InputError: None is given; no such file, or one of another network.
    """

    def __init__(self, weights: str | None) -> None:
        file = given_file("dinov2", weights, URL)
        state = read_state_dict(file)
        if "cls_token" not in state:
            raise InputError(f"{file}: not DINOv2's weights, for cls_token is missing: give the file of {URL}")
        with broken_named(str(file), state):
            translated = _translated(state)
            depth = 1 + max(int(key.split(".")[1]) for key in translated if key.startswith("blocks."))
            width = len(translated["class_token"])
        if width not in NAMES:
            raise InputError(f"{file}: {width} channels, but DINOv2's ViT-S, B and L have {', '.join(map(str, NAMES))}")
        super().__init__(NAMES[width], sha256(file), published=False, resize="Pillow's bicubic to 224")
        with torch.device("meta"):
            network = VisionTransformer(
                ViTConfig(PATCHES, width, depth, "gelu", layer_scale=True, first_norm=False, eps=1e-6)
            )
        self.network = fill(network.to_empty(device="cpu"), translated, str(file))
        self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1]  ->  (N, width)"""
        x = (resize_like_pillow(x.float(), self.network.side, "bicubic") + 1) / 2
        return self.network(normalize(x, list(MEAN), list(STD)))


def _translated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors under our names; unknown ones keep theirs, which is said later."""
    ours = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", module)
        if key == "mask_token":  # of training alone
            continue
        if key == "cls_token":
            ours["class_token"] = value.flatten()
        elif key == "pos_embed":
            ours["positions"] = _at_our_size(value[0])
        elif block and re.fullmatch(r"ls[12]", block[2]) and leaf == "gamma":
            ours[f"blocks.{block[1]}.scale{block[2][-1]}"] = value
        elif block and block[2] in _BLOCK:
            ours[f"blocks.{block[1]}.{_BLOCK[block[2]]}.{leaf}"] = value
        else:
            ours[f"{_FIXED[module]}.{leaf}" if module in _FIXED else key] = value
    return ours


def _at_our_size(positions: Tensor) -> Tensor:
    """Embeddings of positions for 16 x 16 patches: (1 + P², width)  ->  (1 + 16², width)

    Bicubic; where they are sampled, DINOv2's code takes for the map to be 16.1 patches wide.
    """
    side = math.isqrt(len(positions) - 1)
    if side == PATCHES:
        return positions
    grid = positions[1:].float().view(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=((PATCHES + OFFSET) / side,) * 2, mode="bicubic")
    return torch.cat([positions[:1], grid.permute(0, 2, 3, 1).flatten(0, 2)])
