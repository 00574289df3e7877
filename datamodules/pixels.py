"""Between what files hold, uint8, and what networks take, float32 in [-1, 1]."""

import torch
from torch import Tensor

__all__ = ["as_colours", "from_pixels", "to_pixels"]


def from_pixels(pixels: Tensor) -> Tensor:
    """uint8 0 … 255  ->  float32 in [-1, 1], at one of 256 levels; any shape."""
    return pixels.float() / 127.5 - 1


def to_pixels(images: Tensor) -> Tensor:
    """Float in [-1, 1], what is beyond is clamped  ->  uint8, ``round((x + 1) * 127.5)``; any shape."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def as_colours(condition_image: Tensor) -> Tensor:
    """How condition images are shown: (N, C, S, S)  ->  (N, 3, S, S), three channels, or the only one as grey."""
    return condition_image[:, :3].expand(-1, 3, -1, -1)
