"""Drawing with signed distances: negative inside a shape, positive outside; they say how much of a pixel is inside.

Only sums, products, quotients, roots, minima and maxima touch pixels, each an operation of its own. IEEE 754 leaves
them one result each, so an image has the same bits in whatever batch, order or number of threads it is drawn.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Canvas", "box", "ellipse", "intersect_smoothly", "pixel_grid", "root", "stroke"]

_TINY = 1e-12


@dataclass(frozen=True)
class Canvas:
    """Where the pixels are.

    x, y: centres of the pixels in [-1, 1], broadcasting to (N, H, W), x to the right, y down
    pixel: side of a pixel
    """

    x: Tensor
    y: Tensor
    pixel: float

    def cover(self, distance: Tensor, softness: float = 0.0) -> Tensor:
        """The share of each pixel inside a shape, [0, 1]: a box filter across the edge, widened by ``softness``."""
        return (0.5 - distance / (self.pixel + softness)).clamp(0, 1)


def pixel_grid(size: int) -> Canvas:
    """The canvas of an image of size x size pixels: x (1, 1, size), y (1, size, 1)."""
    centres = (torch.arange(size) * 2 + 1 - size) / size  # exactly symmetric about 0
    return Canvas(centres[None, None, :], centres[None, :, None], 2 / size)


def ellipse(x: Tensor, y: Tensor, rx: Tensor, ry: Tensor) -> Tensor:
    """Distance to the ellipse (x/rx)^2 + (y/ry)^2 = 1, right to first order at its edge. All broadcast."""
    u, v = x / rx, y / ry
    p, q = 2 * u / rx, 2 * v / ry
    return ((u * u - 1) + v * v) * ((p * p + _TINY) + q * q).rsqrt()  # what depends on x or y alone is still small


def box(x: Tensor, y: Tensor, rx: Tensor, ry: Tensor, corner: Tensor) -> Tensor:
    """Distance to a rectangle of half sides rx, ry, its corners rounded by the radius ``corner``. All broadcast."""
    dx, dy = x.abs() - (rx - corner), y.abs() - (ry - corner)
    outside = dx.clamp(min=0), dy.clamp(min=0)
    return root(outside[0] * outside[0] + outside[1] * outside[1]) + torch.maximum(dx, dy).clamp(max=0) - corner


def stroke(
    x: Tensor, y: Tensor, half_length: Tensor, bow: Tensor, thickness: Tensor | float, taper: float = 0.3
) -> Tensor:
    """Distance to a tapering stroke along the parabola y = bow * (1 - (x / half_length)^2). All broadcast.

    thickness: half of it in the middle; the fraction ``taper`` of it is gone at the ends
    """
    t = x / half_length
    square = (t * t).clamp(max=1)
    slope = 2 * bow / half_length * t.clamp(-1, 1)
    across = (y - bow * (1 - square)).abs() * (1 + slope * slope).rsqrt()
    beyond = (x.abs() - half_length).clamp(min=0)
    return root(across * across + beyond * beyond) - thickness * (1 - taper * square)


def root(x: Tensor) -> Tensor:
    """Square root of x >= 0, by the reciprocal one: torch splits the plain one among threads from 2048 numbers on."""
    return x * (x + _TINY).rsqrt()


def intersect_smoothly(a: Tensor, b: Tensor, radius: Tensor | float) -> Tensor:
    """Distance to what lies in both shapes, the corner between them rounded by about ``radius``."""
    overlap = (radius - (a - b).abs()).clamp(min=0)
    return torch.maximum(a, b) + overlap * overlap / (4 * radius)
