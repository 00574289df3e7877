"""From one latent to another: straight in the mapped space, along a great circle in that of the prior."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Space", "interpolate", "slerp"]

Space = Literal["z", "w"]
"""``z``: normal latents; ``w``: what a mapping network makes of them."""


def interpolate(first: Tensor, second: Tensor, t: Tensor, space: Space) -> Tensor:
    """What lies on the way at position t, 0 at the first end and 1 at the second.

    first, second: (..., D), t: (...) broadcast against them  ->  (..., D)
    """
    return slerp(first, second, t) if space == "z" else first + t[..., None] * (second - first)


def slerp(first: Tensor, second: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation of the directions; the length goes straight from that of the one to that of the other.

    StyleGAN2's has length 1 throughout, to which its mapping is blind.

    first, second: (..., D), t: (...) broadcast against them  ->  (..., D)
    """
    t = t[..., None]
    lengths = [torch.linalg.vector_norm(end, dim=-1, keepdim=True) for end in (first, second)]
    a, b = first / lengths[0], second / lengths[1]
    cosine = (a * b).sum(dim=-1, keepdim=True).clamp(-1, 1)
    angle = t * torch.acos(cosine)
    across = F.normalize(b - cosine * a, dim=-1)  # 0 where both directions are the same
    return (lengths[0] + t * (lengths[1] - lengths[0])) * (a * torch.cos(angle) + across * torch.sin(angle))
