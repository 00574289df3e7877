"""JPEG's losses (ITU-T T.81) on whole batches, as libjpeg's defaults have them: 4:2:0, triangle-filtered chroma."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

__all__ = ["jpeg"]

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMINANCE = (
    (17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99),
)  # fmt: skip
"""Quantisation of annex K, tables K.1 and K.2; the second is 99 elsewhere."""


def jpeg(images: Tensor, qualities: Sequence[int]) -> Tensor:
    """Images after they were written as JPEG and read again; they differ from libjpeg's by a tenth of what is lost.

    Args:
        images: (N, 3, H, W) in [0, 1], RGB; rounded to 256 levels.
        qualities: N numbers of 1 … 100.

    Returns:
        (N, 3, H, W), at 256 levels in [0, 1].
    """
    height, width = images.shape[-2:]
    red, green, blue = (images.double() * 255).round().unbind(1)  # whose products no GPU rounds
    luma = (0.299 * red + 0.587 * green + 0.114 * blue).round()
    blueness = (0.5 * blue - 0.168735892 * red - 0.331264108 * green + 128).round()
    redness = (0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128).round()
    tables = _tables(LUMINANCE, qualities, luma), _tables(CHROMINANCE, qualities, luma)
    luma = _coded(luma, tables[0])
    half = -(-width // 2)  # the rest is the filling of a block
    blueness, redness = (_enlarged(_coded(_halved(x), tables[1])[..., :half]) for x in (blueness, redness))
    blueness, redness = (x[:, :height, :width] - 128 for x in (blueness, redness))
    colours = (
        luma + (1.402 * redness).round(),
        luma + (-0.344136286 * blueness - 0.714136286 * redness).round(),
        luma + (1.772 * blueness).round(),
    )
    return (torch.stack(colours, dim=1).clamp(0, 255) / 255).to(images.dtype)


def _tables(base: Sequence[Sequence[int]], qualities: Sequence[int], like: Tensor) -> Tensor:
    """(N, 1, 1, 8, 8)"""
    table = like.new_full((8, 8), 99)
    table[: len(base), : len(base)] = like.new_tensor(base)
    scales = like.new_tensor([5000 // quality if quality < 50 else 200 - 2 * quality for quality in qualities])
    return ((table * scales.view(-1, 1, 1, 1, 1) + 50) / 100).floor().clamp(1, 255)


def _coded(plane: Tensor, tables: Tensor) -> Tensor:
    """What is left of a plane, in blocks of 8 x 8: (N, h, w), levels  ->  the same.

    In both directions one axis after the other, rounded in between as libjpeg's transform of integers is: without that
    every fourth pixel would be another.
    """
    height, width = plane.shape[-2:]
    plane = F.pad(plane[:, None], (0, -width % 8, 0, -height % 8), mode="replicate")[:, 0]
    blocks = rearrange(plane - 128, "n (h a) (w b) -> n h w a b", a=8, b=8)
    cosines = _cosines(plane)
    coefficients = _rounded(cosines @ _rounded(4 * blocks @ cosines.T) / 4)  # eight times what is kept
    kept = coefficients.sign() * ((coefficients.abs() / 8 + tables / 2) / tables).floor() * tables
    blocks = _rounded(_rounded(4 * cosines.T @ kept) @ cosines / 32)
    plane = rearrange(blocks, "n h w a b -> n (h a) (w b)")
    return (plane[:, :height, :width] + 128).clamp(0, 255)


def _cosines(like: Tensor) -> Tensor:
    """The DCT-II of 8 numbers, sqrt(8) times the orthonormal one: (8, 8)."""
    angles = torch.arange(8, dtype=like.dtype, device=like.device)
    matrix = math.sqrt(2) * torch.cos(math.pi / 16 * angles[:, None] * (2 * angles + 1))
    matrix[0] = 1
    return matrix


def _rounded(x: Tensor) -> Tensor:
    """To whole numbers, halves upwards; those too that the last bits left a little below."""
    return (x + 0.500001).floor()


def _halved(plane: Tensor) -> Tensor:
    """Means of 2 x 2 pixels, halves rounded down and up by turns, to whole blocks in width.

    (N, h, w)  ->  (N, ceil(h / 2), 8 ceil(w / 16))
    """
    height, width = plane.shape[-2:]
    plane = F.pad(plane[:, None], (0, -width % 16, 0, height % 2), mode="replicate")
    sums = 4 * F.avg_pool2d(plane, 2)[:, 0]
    return ((sums + 1 + torch.arange(sums.shape[-1], device=plane.device) % 2) / 4).floor()


def _enlarged(plane: Tensor) -> Tensor:
    """Twice the size: three parts of the nearest pixel, one of the next, down and across: (N, h, w)  ->  (N, 2h, 2w)"""
    padded = F.pad(plane[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    inner = 3 * padded[:, 1:-1]
    rows = torch.stack([inner + padded[:, :-2], inner + padded[:, 2:]], dim=2).flatten(1, 2)
    inner = 3 * rows[..., 1:-1]
    columns = torch.stack([inner + rows[..., :-2] + 8, inner + rows[..., 2:] + 7], dim=3).flatten(2)
    return (columns / 16).floor()
