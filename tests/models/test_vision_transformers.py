"""DINOv2 and CLIP: equal to torchvision's transformer with the same weights, read from the files' names alone."""

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import VisionTransformer as Torchvisions
from torchvision.transforms.functional import normalize

from tenshot.errors import InputError
from tenshot.models.features import CLIPFeatures, DINOv2Features, clip
from tenshot.models.features.resize import resize_like_pillow
from tenshot.models.features.vision_transformer import ViTConfig

State = dict[str, Tensor]

WIDTH, DEPTH = 384, 2
SMALL_CLIP = ViTConfig(
    patches=3, width=128, depth=2, activation="quick_gelu", layer_scale=False, first_norm=True, eps=1e-5,
    out_channels=32,
)  # fmt: skip


def images(side: int) -> Tensor:
    levels = torch.randint(256, (2, 3, side, side), generator=torch.Generator().manual_seed(0))
    return levels / 127.5 - 1


def torchvisions(patches: int, width: int, eps: float) -> Torchvisions:
    """Of random weights, with which attention and what is added to tokens do something."""
    network = Torchvisions(
        patches * 14, 14, DEPTH, width // 64, width, 4 * width, num_classes=1,
        norm_layer=partial(nn.LayerNorm, eps=eps),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        weight.data.normal_(0, weight[0].numel() ** -0.5 if weight.dim() in (2, 4) else 0.3, generator=generator)
    return network.eval().requires_grad_(False)


def blocks(network: Torchvisions) -> list[State]:
    return [dict(block.state_dict()) for block in network.encoder.layers]


# DINOv2


def dinov2_state(network: Torchvisions, positions: Tensor) -> State:
    """As Meta's file has it. What blocks add is scaled there, so what torchvision's add is divided before."""
    scale = torch.linspace(0.5, 2, WIDTH)
    state = {
        "cls_token": network.class_token, "pos_embed": positions, "mask_token": torch.ones(1, WIDTH),
        "patch_embed.proj.weight": network.conv_proj.weight, "patch_embed.proj.bias": network.conv_proj.bias,
        "norm.weight": network.encoder.ln.weight, "norm.bias": network.encoder.ln.bias,
    }  # fmt: skip
    for number, block in enumerate(blocks(network)):
        theirs = {
            "norm1": "ln_1.{}", "norm2": "ln_2.{}", "attn.qkv": "self_attention.in_proj_{}",
            "attn.proj": "self_attention.out_proj.{}", "mlp.fc1": "mlp.0.{}", "mlp.fc2": "mlp.3.{}",
        }  # fmt: skip
        for name, theirs_name in theirs.items():
            for leaf in ("weight", "bias"):
                value = block[theirs_name.format(leaf)]
                if name in ("attn.proj", "mlp.fc2"):
                    value = value / (scale[:, None] if leaf == "weight" else scale)
                state[f"blocks.{number}.{name}.{leaf}"] = value
        state |= {f"blocks.{number}.ls{which}.gamma": scale for which in (1, 2)}
    return {name: value.detach().clone() for name, value in state.items()}


def class_token_of(network: Torchvisions, x: Tensor) -> Tensor:
    tokens = torch.cat([network.class_token.expand(len(x), -1, -1), network._process_input(x)], dim=1)
    return network.encoder(tokens)[:, 0]


def saved(path: Path, state: State) -> str:
    torch.save(state, path)
    return str(path)


def test_dinov2_is_torchvisions_transformer_with_scaled_blocks(tmp_path: Path):
    network = torchvisions(16, WIDTH, eps=1e-6)
    features = DINOv2Features(saved(tmp_path / "a.pth", dinov2_state(network, network.encoder.pos_embedding)))
    x = images(224)
    theirs = class_token_of(network, normalize((x + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    assert (theirs[0] - theirs[1]).abs().max() > 0.01
    torch.testing.assert_close(features(x), theirs, rtol=1e-5, atol=1e-5)
    assert features.name == "dinov2_vits14"


def cubic(x: float) -> float:
    """Keys' kernel with a = -0.75."""
    x = abs(x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def test_positions_are_interpolated_as_dinov2_does(tmp_path: Path):
    network = torchvisions(16, WIDTH, eps=1e-6)
    positions = torch.randn(1, 1 + 37**2, WIDTH, generator=torch.Generator().manual_seed(1))
    features = DINOv2Features(saved(tmp_path / "a.pth", dinov2_state(network, positions)))
    sampling = np.zeros((16, 37))
    for i in range(16):
        at = (i + 0.5) * 37 / 16.1 - 0.5
        for j in range(math.floor(at) - 1, math.floor(at) + 3):
            sampling[i, min(max(j, 0), 36)] += cubic(at - j)
    grid = positions[0, 1:].double().view(37, 37, WIDTH).numpy()
    expected = np.einsum("ai,bj,ijc->abc", sampling, sampling, grid).reshape(256, WIDTH)
    np.testing.assert_allclose(features.network.positions[1:].numpy(), expected, atol=1e-4)
    assert torch.equal(features.network.positions[0], positions[0, 0])


def test_bicubic_resizing_is_pillows():
    x = images(40)
    resized = ((resize_like_pillow(x, 64, "bicubic") + 1) * 127.5).numpy()
    for image, small in zip(x, resized, strict=True):
        pixels = ((image + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(np.uint8)
        theirs = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(small.transpose(1, 2, 0) - theirs).max() < 1.01
        assert np.abs(small.transpose(1, 2, 0) - theirs).mean() < 0.01


# CLIP


def clip_tower() -> tuple[Torchvisions, nn.LayerNorm, Tensor]:
    """torchvision's transformer as CLIP's image tower: without a bias of patches, with CLIP's activation."""
    network = torchvisions(SMALL_CLIP.patches, SMALL_CLIP.width, SMALL_CLIP.eps)
    network.conv_proj.bias.zero_()
    for block in network.encoder.layers:
        block.mlp[1] = QuickGELU()
    generator = torch.Generator().manual_seed(2)
    first = nn.LayerNorm(SMALL_CLIP.width)
    first.weight.data.normal_(1, 0.2, generator=generator)
    first.bias.data.normal_(0, 0.2, generator=generator)
    return network, first.requires_grad_(False), torch.randn(32, SMALL_CLIP.width, generator=generator)


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / (1 + (-1.702 * x).exp())


def of_openai(network: Torchvisions, first: nn.LayerNorm, projection: Tensor) -> State:
    state = {
        "visual.class_embedding": network.class_token.flatten(), "visual.conv1.weight": network.conv_proj.weight,
        "visual.positional_embedding": network.encoder.pos_embedding[0], "visual.proj": projection.T,
        "visual.ln_pre.weight": first.weight, "visual.ln_pre.bias": first.bias,
        "visual.ln_post.weight": network.encoder.ln.weight, "visual.ln_post.bias": network.encoder.ln.bias,
        "logit_scale": torch.tensor(4.6), "token_embedding.weight": torch.zeros(5, 3),
    }  # fmt: skip
    for number, block in enumerate(blocks(network)):
        for name, value in block.items():
            theirs = name.replace("self_attention", "attn").replace("mlp.0", "mlp.c_fc").replace("mlp.3", "mlp.c_proj")
            state[f"visual.transformer.resblocks.{number}.{theirs}"] = value
    return {name: value.detach().clone() for name, value in state.items()}


def of_transformers(network: Torchvisions, first: nn.LayerNorm, projection: Tensor) -> State:
    tower = "vision_model."
    state = {
        f"{tower}embeddings.class_embedding": network.class_token.flatten(),
        f"{tower}embeddings.patch_embedding.weight": network.conv_proj.weight,
        f"{tower}embeddings.position_embedding.weight": network.encoder.pos_embedding[0],
        f"{tower}embeddings.position_ids": torch.arange(10)[None], "visual_projection.weight": projection,
        f"{tower}pre_layrnorm.weight": first.weight, f"{tower}pre_layrnorm.bias": first.bias,
        f"{tower}post_layernorm.weight": network.encoder.ln.weight,
        f"{tower}post_layernorm.bias": network.encoder.ln.bias, "text_model.final_layer_norm.bias": torch.zeros(3),
    }  # fmt: skip
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"}
    for number, block in enumerate(blocks(network)):
        layer = f"{tower}encoder.layers.{number}."
        for leaf in ("weight", "bias"):
            for part, value in zip("qkv", block[f"self_attention.in_proj_{leaf}"].chunk(3), strict=True):
                state[f"{layer}self_attn.{part}_proj.{leaf}"] = value
            state[f"{layer}self_attn.out_proj.{leaf}"] = block[f"self_attention.out_proj.{leaf}"]
            state |= {f"{layer}{ours}.{leaf}": block[f"{theirs}.{leaf}"] for theirs, ours in names.items()}
    return {name: value.detach().clone() for name, value in state.items()}


@pytest.mark.parametrize("named", [of_openai, of_transformers])
def test_clip_is_torchvisions_transformer_normalised_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: Callable[..., State]
):
    monkeypatch.setattr(clip, "CONFIG", SMALL_CLIP)
    network, first, projection = clip_tower()
    features = CLIPFeatures(saved(tmp_path / "a.pth", named(network, first, projection)))
    x = images(42)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    patches = network._process_input(normalize((x + 1) / 2, mean, std))
    tokens = torch.cat([network.class_token.expand(2, -1, -1), patches], dim=1) + network.encoder.pos_embedding
    last = network.encoder.ln(network.encoder.layers(first(tokens)))[:, 0]
    expected = last @ projection.T
    expected = expected / expected.square().sum(dim=1, keepdim=True).sqrt()
    assert (expected[0] - expected[1]).abs().max() > 0.01
    torch.testing.assert_close(features(x), expected, rtol=1e-5, atol=1e-5)


# Files


@pytest.mark.parametrize(
    ("kind", "url"), [(DINOv2Features, "dinov2_vitl14_pretrain.pth"), (CLIPFeatures, "clip-vit-large-patch14-336")]
)
def test_a_file_must_be_given_and_be_there(tmp_path: Path, kind: Callable[[str | None], nn.Module], url: str):
    with pytest.raises(InputError, match=f"need a file of weights, which is not looked for: give that of .*{url}"):
        kind(None)
    with pytest.raises(InputError, match=f"no such file of .* weights: give that of .*{url}"):
        kind(str(tmp_path / "a.pth"))


def test_other_files_are_refused_with_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    network = torchvisions(16, WIDTH, eps=1e-6)
    state = dinov2_state(network, network.encoder.pos_embedding)
    with_registers = saved(tmp_path / "a.pth", state | {"register_tokens": torch.zeros(1, 4, WIDTH)})
    with pytest.raises(InputError, match=re.escape("1 unknown keys (register_tokens)")):
        DINOv2Features(with_registers)
    with pytest.raises(InputError, match="not DINOv2's weights, for cls_token is missing: give the file of"):
        DINOv2Features(saved(tmp_path / "b.pth", {"a": torch.zeros(2)}))
    with pytest.raises(InputError, match="100 channels, but DINOv2's ViT-S, B and L have 384, 768, 1024"):
        DINOv2Features(saved(tmp_path / "c.pth", state | {"cls_token": torch.zeros(1, 1, 100)}))
    with pytest.raises(InputError, match=r"neither vision_model\.… nor visual\.… is in it"):
        CLIPFeatures(saved(tmp_path / "d.pth", state))
    monkeypatch.setattr(clip, "CONFIG", SMALL_CLIP)
    tower = of_transformers(*clip_tower())
    del tower["vision_model.encoder.layers.1.self_attn.k_proj.weight"]
    with pytest.raises(InputError, match=r"differing keys \(blocks\.1\.qkv\.weight"):
        CLIPFeatures(saved(tmp_path / "e.pth", tower))
