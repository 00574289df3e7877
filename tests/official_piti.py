"""PITI's official code at a size that takes a test little time."""

from typing import Any

import pytest
import torch
from official_code import official, randomised
from torch import Tensor, nn

from tenshot.models import PITIConfig

CONFIG = PITIConfig(
    image_size=32, channels=32, channel_mult=(1, 2, 3), num_res_blocks=1, attention_resolutions=(16, 8),
    head_channels=16, condition_layers=2, dropout=0.0,
)  # fmt: skip


def network(name: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """``Text2ImModel`` or ``SuperResText2ImModel``, with random weights."""
    module = official("PITI", "pretrained_diffusion.text2im_model")
    blocks = module.Transformer  # eight, whatever the official encoder is asked for; two are enough
    monkeypatch.setattr(module, "Transformer", lambda width, layers, heads: blocks(width, 2, heads))
    theirs = getattr(module, name)(
        text_ctx=128, xf_width=512, xf_layers=2, xf_heads=8, xf_final_ln=True, use_fp16=False, num_heads=1,
        num_heads_upsample=-1, n_class=3, in_channels=3, model_channels=32, out_channels=6, num_res_blocks=1,
        attention_resolutions=(2, 4), channel_mult=(1, 2, 3), num_head_channels=16, use_scale_shift_norm=True,
        resblock_updown=True, dropout=0.0,
    )  # fmt: skip
    return randomised(theirs)


def process(schedule: str, steps: str = "") -> Any:
    util = official("PITI", "pretrained_diffusion.script_util")
    return util.create_gaussian_diffusion(
        steps=1000, learn_sigma=True, noise_schedule=schedule, timestep_respacing=steps
    )


def sample(
    theirs: nn.Module, schedule: str, given: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, **how: Any
) -> Tensor:
    """Two images of 32 px by the official sampler."""
    util = official("PITI", "pretrained_diffusion.glide_util")
    monkeypatch.setattr(util.dist_util, "dev", lambda: "cpu")
    options = {
        "diffusion_steps": 1000, "learn_sigma": True, "noise_schedule": schedule, "predict_xstart": False,
        "rescale_timesteps": False, "rescale_learned_sigmas": False,
    }  # fmt: skip
    with torch.no_grad():
        images: Tensor = util.sample(theirs, options, 32, 32, given, batch_size=2, **how)
    return images


def condition() -> Tensor:
    """Of noise: uint8 (2, 3, 256, 256)."""
    return torch.randint(256, (2, 3, 256, 256), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
