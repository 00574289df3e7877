"""Affine warps of images without aliasing, as ADA has them (arXiv 2006.06676, appendix B).

An image is continued by reflection about its outermost pixels, enlarged twofold with an orthogonal low-pass filter,
sampled bilinearly at twice its resolution, and reduced with the mirrored filter. Without a warp the two filters cancel.
Enlarging and reducing are products with one matrix an axis, reflection included: on a CPU faster than convolutions at
32 px and as fast at 256 px, and their derivatives of any order are products again.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

__all__ = ["warp"]

SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
"""Low-pass filter of the symlet of order 6; its sum is the square root of 2."""
CENTRE = len(SYM6) // 2 - 1
"""Of the filter; also how many points of the doubled image halving reads beyond each border."""


def warp(images: Tensor, output_to_input: Tensor) -> Tensor:
    """Images that show at p what lay at ``output_to_input @ p``. Differentiable any number of times.

    Reflections go on without end. The published code reflects once, over a margin that the farthest reaching image of
    the batch decides and that leaves the filter little room in images that shrink; where it is wide enough, the
    results are the same.

    Args:
        images: (N, C, H, W), float32 or float64.
        output_to_input: (N, 2, 3) affine matrices for (x, y, 1) in pixels from the image's centre, x to the right and
            y downwards. No gradient reaches them.

    Returns:
        (N, C, H, W). An image whose matrix is the identity comes back unchanged to the last bit.
    """
    height, width = images.shape[2:]
    with torch.no_grad():
        matrices = output_to_input.to(images)
        identity = torch.ones_like(matrices[0, 0]).diag()[:2]
        unchanged = (matrices == identity).flatten(1).all(dim=1).view(-1, 1, 1, 1)
        x, y = _points(matrices, height, width)
        columns, x = _enlargement(width, x)
        rows, y = _enlargement(height, y)
        grid = torch.stack((x, y), dim=-1)
    sampled = _Sample.apply(rows @ images @ columns.mT, grid)  # (N, C, 2H + 10, 2W + 10)
    warped = _halving(height, images.dtype, images.device) @ sampled
    return torch.where(unchanged, images, warped @ _halving(width, images.dtype, images.device).mT)


def _points(matrices: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where the doubled output, margins for halving included, reads the doubled input: x and y, (N, 2H + 10, 2W + 10).

    Pixel i lies at point 2i of the doubled image, within a tenth of a point: the filter leans to that side.
    """
    u, v = (
        torch.arange(1 - size - CENTRE, size + CENTRE + 1, dtype=matrices.dtype, device=matrices.device)
        for size in (width, height)
    )  # from the centre
    a = matrices[..., None, None]  # (N, 2, 3, 1, 1)
    x, y = (a[:, :, 0] * u + a[:, :, 1] * v[:, None] + 2 * a[:, :, 2]).unbind(dim=1)
    return x + (width - 1), y + (height - 1)


def _enlargement(size: int, points: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix (L, size) that doubles as much of the reflected image as is read along one axis, and the points.

    The reflected image repeats itself, so that one period is enough wherever the points lie. They often span less,
    but to know that would make the host wait for an accelerator.

    Args:
        size: Pixels of the image.
        points: Positions in the doubled image, of any shape.

    Returns:
        The matrix, and the points in the coordinates of :func:`grid_sample`, from -1 to 1 edge to edge.
    """
    start, length = 0, max(4 * (size - 1), 2)  # one period
    if points.device.type == "cpu" and points.max() - points.min() < length - 1:
        start = math.floor(points.min())
        length = math.floor(points.max()) + 1 - start
    else:
        points = points.remainder(length)
    length += 1  # of the last two points, one is there to interpolate towards
    return _doubling(size, start, length, points.dtype, points.device), (2 * (points - start) + 1) / length - 1


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _doubling(size: int, start: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(length, size): points start, start + 1, … of the doubled, reflected image from its pixels."""
    taps = torch.tensor(SYM6, dtype=torch.float64) * math.sqrt(2)
    point = torch.arange(start, start + length)[:, None]
    pixel = (point + CENTRE) // 2 - torch.arange(len(SYM6) // 2)  # (length, 6): those within reach of the filter
    weight = taps[point + CENTRE - 2 * pixel]
    period = max(2 * (size - 1), 1)
    pixel = size - 1 - (pixel % period - (size - 1)).abs()
    return torch.zeros(length, size, dtype=torch.float64).scatter_add_(1, pixel, weight).to(device, dtype)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _halving(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, 2 size + 10): pixels from the points of the doubled image and ``CENTRE`` more on either side."""
    taps = torch.tensor(SYM6, dtype=torch.float64) / math.sqrt(2)
    point = 2 * torch.arange(size)[:, None] + torch.arange(len(SYM6))
    matrix = torch.zeros(size, 2 * (size + CENTRE), dtype=torch.float64)
    return matrix.scatter_(1, point, taps.expand(size, -1)).to(device, dtype)


class _Sample(Function):
    """Bilinear sampling, zeros outside, for which memory need not hold the enlarged images: it is linear in them."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:  # (N, C, H, W), (N, H', W', 2) -> (N, C, H', W')
        ctx.save_for_backward(grid)
        ctx.size = images.shape[2:]
        return F.grid_sample(images, grid, align_corners=False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(grad, *ctx.saved_tensors, ctx.size), None


class _Spread(Function):
    """The transpose of ``_Sample``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, size: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        images = values.new_zeros(()).expand(*values.shape[:2], *size)  # of which only the shape is asked
        return torch.ops.aten.grid_sampler_2d_backward(values, images, grid, 0, 0, False, [True, False])[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Sample.apply(grad, *ctx.saved_tensors), None, None
