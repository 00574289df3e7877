"""GLIDE's and PITI's public files, made of tiny networks of ours."""

import re
from collections.abc import Mapping
from typing import Any

import tiny
import torch
from torch import Tensor

from tenshot.models import ConditionConfig, ConditionEncoder, GlideConfig, GlideUNet, PITIConfig

UNET: dict[str, Any] = {**tiny.UNET, "context_channels": 32, "dropout": 0.1}
TEXT: dict[str, Any] = {"text_length": 5, "text_vocabulary": 9, "text_layers": 2, "text_heads": 1}
CONDITION: dict[str, Any] = {"condition_size": 32, "condition_grid": 2, "condition_layers": 2, "condition_heads": 1}
UPSAMPLER: dict[str, Any] = {"low_res_channels": 3}

_TRANSFORMER = (
    (r"^blocks\.", "transformer.resblocks."), ("norm1", "ln_1"), ("norm2", "ln_2"), (r"\bqkv", "attn.c_qkv"),
    (r"\bproj\.", "attn.c_proj."), ("fc1", "mlp.c_fc"), ("fc2", "mlp.c_proj"), (r"^norm\.", "final_ln."),
    ("class_token", "cls_token"), (r"^conv\.", "cnn.conv6."),
    (r"^(conv|norm)s\.(\d)", lambda m: f"cnn.{m[1]}{int(m[2]) + 1}"),
)  # fmt: skip


def glide(**changes: Any) -> GlideUNet:
    return awake(GlideUNet(GlideConfig(**(UNET | TEXT | changes))))


def piti(**changes: Any) -> GlideUNet:
    return awake(GlideUNet(PITIConfig(**(UNET | CONDITION | changes))))


def awake(network: GlideUNet) -> GlideUNet:
    """With no weight zero, so that every part of it shows in its output."""
    return tiny.randomised(network).eval()  # type: ignore[type-var]


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a text transformer or a condition encoder under their public names."""
    renamed = {}
    for name, value in state.items():
        for ours, theirs in _TRANSFORMER:
            name = re.sub(ours, theirs, name)
        renamed[name] = value.clone()
    return renamed


def public(network: GlideUNet) -> dict[str, Tensor]:
    """The weights as the public file has them."""
    state = network.state_dict()
    mine = {n.removeprefix("context_encoder."): v for n, v in state.items() if n.startswith("context_encoder.")}
    encoder = encoder_state(mine)
    unet = tiny.public_state({n: v for n, v in state.items() if not n.startswith("context_encoder.")})
    names = {"context_embedding": "transformer_proj", ".context_kv.": ".encoder_kv."}
    for ours, theirs in names.items():
        unet = {name.replace(ours, theirs): value for name, value in unet.items()}
    if isinstance(network.config, GlideConfig):
        return unet | encoder
    return {f"decoder.{n}": v for n, v in unet.items()} | {f"encoder.{n}": v for n, v in encoder.items()}


def given(network: GlideUNet, batch: int = 2) -> dict[str, Tensor]:
    """Noisy images, timesteps, and a condition."""
    generator = torch.Generator().manual_seed(2)
    config = network.config
    told = {"x": torch.randn(batch, 3, 16, 16, generator=generator), "t": torch.tensor([3, 700])[:batch]}
    if config.low_res_channels:
        told["low_res"] = torch.randn(batch, 3, 4, 4, generator=generator)
    return told | condition(network, batch)


def condition(network: GlideUNet, batch: int = 2) -> dict[str, Tensor]:
    """A text that is shorter than it may be, or a condition image."""
    generator, config = torch.Generator().manual_seed(3), network.config
    if isinstance(config, GlideConfig):
        tokens = torch.randint(config.text_vocabulary, (batch, config.text_length), generator=generator)
        return {"tokens": tokens, "tokens_mask": (torch.arange(config.text_length) < 3).expand(batch, -1)}
    size = (batch, config.condition_channels, config.condition_size, config.condition_size)
    return {"condition_image": torch.randint(256, size, generator=generator, dtype=torch.uint8)}


def condition_encoder(**changes: Any) -> ConditionEncoder:
    sizes: dict[str, Any] = {"size": 32, "grid": 2, "width": 32, "layers": 2, "heads": 1}
    return tiny.randomised(ConditionEncoder(ConditionConfig(**(sizes | changes)))).eval()  # type: ignore[type-var]
