"""The precision that losses, and the arithmetic of a diffusion process, are computed in."""

import torch
from torch import Tensor

__all__ = ["full_precision"]


def full_precision(x: Tensor) -> Tensor:
    """float64 as it is, anything shorter as float32."""
    return x if x.dtype == torch.float64 else x.float()
