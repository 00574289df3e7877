"""The images that metrics take: checked, and rounded to what a PNG file could hold."""

import warnings

import torch
from torch import Tensor

from tenshot.datamodules.pixels import to_pixels
from tenshot.errors import InputError

__all__ = ["checked_pixels"]

OVERSHOOT = 1 / 255
"""Half a grey level beyond [-1, 1] is rounding; more is another range."""


def checked_pixels(images: Tensor) -> Tensor:
    """Images as their file would hold them, so that metrics of tensors and of PNGs agree exactly.

    Args:
        images: (N, 3, H, W), float in [-1, 1], or uint8.

    Returns:
        (N, 3, H, W) uint8

    Raises:
        InputError: Another shape, type or range, or NaN.
    """
    if images.dim() != 4 or images.shape[1] != 3:
        raise InputError(f"metrics take images (N, 3, H, W), but got {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise InputError(f"metrics take float images in [-1, 1] or uint8 ones, but got {images.dtype}: convert them")
    if images.numel() == 0:
        return images.to(torch.uint8)
    x = images.float()
    low, high = (bound.item() for bound in torch.aminmax(x))  # NaN if there is any
    if not (low >= -1 - OVERSHOOT and high <= 1 + OVERSHOOT):
        if low != low:
            raise InputError("metrics take images in [-1, 1], but there is a NaN: look at the generator")
        remedy = "x / 127.5 - 1, or uint8" if low >= 0 and high <= 255 else "scale or clamp them first"
        raise InputError(f"metrics take float images in [-1, 1], but got {low:.4g} … {high:.4g}: {remedy}")
    if low >= 0:
        warnings.warn("images without a value below 0: metrics take [-1, 1], for [0, 1] give 2 * x - 1", stacklevel=2)
    return to_pixels(x)
