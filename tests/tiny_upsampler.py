"""PITI's upsampler at a size that takes a test no time: 8 to 16 px, from conditions of 32 px."""

from dataclasses import replace
from typing import Any

import tiny
import tiny_piti
import torch
from torch import Tensor

from tenshot.lightning_modules import PatchAdversary, Perceptual, PITIUpsampler

CONFIG = replace(tiny_piti.TINY, low_res_channels=3)
PERCEPTUAL = Perceptual(network="efficientnet_lite0")
ADVERSARY = PatchAdversary(channels=4, layers=2)


def upsampler(**arguments: Any) -> PITIUpsampler:
    """A method with its networks, all of whose losses count from the first step on."""
    start = {} if "init_from" in arguments else {"piti": CONFIG, "low_res_size": 8}
    losses = {"perceptual": PERCEPTUAL, "adversary": ADVERSARY, "losses_from": 0}
    quick = {"sampler": tiny.QUICK, "preview_sampler": tiny.QUICK, "optimizer": tiny.adam()}
    module = PITIUpsampler(**(start | losses | quick | arguments))
    torch.manual_seed(0)
    module.configure_model()
    return module


def condition(count: int = 4) -> dict[str, Tensor]:
    """Small images and masks."""
    small = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return {"low_res": small, "condition_image": tiny_piti.masks(count)}
