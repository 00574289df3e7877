"""Resizing that is part of a published metric: as TensorFlow 1 did it, and as Pillow does it."""

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["resize_like_pillow", "resize_like_tensorflow1"]


def resize_like_pillow(images: Tensor, side: int, mode: Literal["bilinear", "bicubic"]) -> Tensor:
    """What Pillow's filter makes of images of 256 levels, which is antialiased and rounded to levels again.

    (N, 3, H, W) in [-1, 1]  ->  (N, 3, side, side)
    """
    if images.shape[-2:] == (side, side):
        return images
    for size in ((images.shape[-2], side), (side, side)):  # across, then down, rounded each time
        images = F.interpolate(images, size=size, mode=mode, antialias=True, align_corners=False)
        images = (((images + 1) * 127.5).round() / 127.5 - 1).clamp_(-1, 1)
    return images


def resize_like_tensorflow1(x: Tensor, size: int) -> Tensor:
    """Bilinear, no antialiasing, first pixels aligned, as FID's Inception has it.

    (N, C, H, W) float  ->  (N, C, size, size), as two products with matrices of two entries a row."""
    height, width = x.shape[2:]
    return _weights(height, size, x.device) @ x @ _weights(width, size, x.device).T


@lru_cache(maxsize=16)
def _weights(length: int, size: int, device: torch.device) -> Tensor:
    """(size, length): how much of each of ``length`` pixels goes into each of ``size``."""
    with torch.inference_mode(False):
        at = torch.arange(size, dtype=torch.float32) * torch.tensor(length / size, dtype=torch.float32)
        lower = at.long()
        upper = (lower + 1).clamp(max=length - 1)
        share, row = at - lower, torch.arange(size)
        weights = torch.zeros(size, length)
        weights.index_put_((row, lower), 1 - share, accumulate=True)
        weights.index_put_((row, upper), share, accumulate=True)
        return weights.to(device)
