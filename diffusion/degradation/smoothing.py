"""L0 gradient minimisation (Xu et al. 2011): it flattens all but the strongest edges of images."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["l0_smooth"]

GROWTH, LARGEST = 2.0, 1e5
"""By how much beta grows each round, and below what it stays."""


def l0_smooth(images: Tensor, strengths: Sequence[float]) -> Tensor:
    """Smooth images by half-quadratic splitting, over all channels jointly (Xu et al. 2011, algorithm 1).

    min_S |S - I|² + lambda · (number of pixels at which S changes), where I are grey levels of 0 … 255 over 256, and
    images continue at their opposite border. Nothing is rounded: whole levels, cut off, would be darker by half a one.

    Args:
        images: (N, C, H, W) in [0, 1].
        strengths: N lambdas, larger than 0.

    Returns:
        (N, C, H, W) in [0, 1].
    """
    height, width = images.shape[-2:]
    source = images * (255 / 256)
    spectrum = torch.fft.rfft2(source)
    rows = torch.fft.fftfreq(height, dtype=images.dtype, device=images.device)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=images.dtype, device=images.device)
    changes = 4 - 2 * torch.cos(2 * math.pi * rows) - 2 * torch.cos(2 * math.pi * columns)  # |F(dx)|² + |F(dy)|²
    strength = images.new_tensor(strengths).view(-1, 1, 1, 1)
    beta, smooth = 2 * strength, source
    for _ in range(math.ceil(math.log(LARGEST / (2 * min(strengths)), GROWTH))):
        across, down = smooth.roll(-1, -1) - smooth, smooth.roll(-1, -2) - smooth
        kept = (across.square() + down.square()).sum(dim=1, keepdim=True) >= strength / beta
        across, down = across * kept, down * kept
        divergence = across.roll(1, -1) - across + down.roll(1, -2) - down
        solved = (spectrum + beta * torch.fft.rfft2(divergence)) / (1 + beta * changes)
        smooth = torch.where(beta < LARGEST, torch.fft.irfft2(solved, s=(height, width)), smooth)
        beta = beta * GROWTH
    return (smooth * (256 / 255)).clamp(0, 1)
