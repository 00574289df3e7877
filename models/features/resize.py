"""Bilinear resizing as TensorFlow 1 did it, which is part of FID: no antialiasing, first pixels aligned."""

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["resize_like_tensorflow1"]


def resize_like_tensorflow1(x: Tensor, size: int) -> Tensor:
    """(N, C, H, W) float  ->  (N, C, size, size), as two products with matrices of two entries a row."""
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
