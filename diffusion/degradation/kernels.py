"""Kernels and matrices that blur and resize images, each closed in form; borders as SciPy and OpenCV have them."""

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Interpolation", "filtered", "gaussian_kernel", "resized", "shifted_gaussian"]

Interpolation = Literal["linear", "cubic", "area", "antialiased"]
"""OpenCV's three, and MATLAB's bicubic ``imresize`` to the half."""


def gaussian_kernel(size: int, covariance: np.ndarray) -> np.ndarray:
    """The density of a normal distribution around the middle of ``size`` x ``size`` pixels, with a sum of 1.

    Even sizes have their middle between two pixels.

    Args:
        size: Rows and columns.
        covariance: (2, 2) of the column and the row, in pixels²; it may be singular.

    Returns:
        (size, size) float64.
    """
    at = np.arange(size) - (size - 1) / 2
    offsets = np.stack(np.meshgrid(at, at), axis=-1)  # (row, column, 2): column first, as in the covariance
    precision = np.linalg.inv(covariance + 1e-12 * np.eye(2))
    exponent = -0.5 * np.einsum("yxi,ij,yxj->yx", offsets, precision, offsets)
    kernel = np.exp(exponent - exponent.max())  # of a narrow one between pixels nothing would be left else
    return kernel / kernel.sum()


def shifted_gaussian(size: int, sigma: float, shift: float) -> np.ndarray:
    """An isotropic Gaussian moved up and left by ``shift`` pixels, interpolated bilinearly, with a sum of 1.

    Returns:
        (size, size) float64.
    """
    at = np.arange(size)
    centred = np.exp(-0.5 * ((at - (size - 1) / 2) / sigma) ** 2)
    line = np.interp(at + shift, at, centred)
    return np.outer(line, line) / line.sum() ** 2


def filtered(images: Tensor, kernels: Tensor, stride: int = 1) -> Tensor:
    """Each image convolved with its own kernel; the border is mirrored, without repeating the last pixel.

    As ``scipy.ndimage.convolve(image, kernel, mode="mirror")[::stride, ::stride]``; even kernels too, which thereby
    move an image by half a pixel.

    Args:
        images: (N, C, S, S)
        kernels: (N, K, K)
        stride: Of the pixels that are kept.

    Returns:
        (N, C, ceil(S / stride), ceil(S / stride))
    """
    n, channels, side = images.shape[:3]
    size = kernels.shape[-1]
    before, period = size - 1 - size // 2, max(2 * side - 2, 1)
    at = torch.arange(-before, side + size - 1 - before, device=images.device) % period
    at = torch.minimum(at, period - at)
    padded = images[:, :, at][:, :, :, at].view(1, n * channels, len(at), len(at))
    weight = kernels.flip(1, 2).repeat_interleave(channels, dim=0)[:, None]
    out = F.conv2d(padded, weight, stride=stride, groups=n * channels)
    return out.view(n, channels, *out.shape[-2:])


def resized(images: Tensor, side: int, how: Interpolation) -> Tensor:
    """Images brought to another size; none but ``area`` and ``antialiased`` avoids aliases.

    Args:
        images: (N, C, S, S)
        side: Of the result; S / 2 for ``antialiased``.
        how: ``linear``, ``cubic`` (a = -0.75) and ``area`` as in OpenCV; ``antialiased``: cubic (a = -0.5), half as
            many pixels.

    Returns:
        (N, C, side, side), not clamped.
    """
    if how == "linear":
        return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
    if how == "cubic":
        return F.interpolate(images, (side, side), mode="bicubic", align_corners=False)
    length = images.shape[-1]
    matrix = _areas(length, side, images.device) if how == "area" else _halving(length, images.device)
    matrix = matrix.to(images.dtype)
    return matrix @ images @ matrix.T


def _areas(length: int, out: int, device: torch.device) -> Tensor:
    """(out, length): which share of each new pixel each old one covers."""
    pixel, scale = torch.arange(out, dtype=torch.float64, device=device)[:, None], length / out
    old = torch.arange(length, dtype=torch.float64, device=device)
    covered = torch.minimum((pixel + 1) * scale, old + 1) - torch.maximum(pixel * scale, old)
    return covered.clamp(min=0) / scale


def _halving(length: int, device: torch.device) -> Tensor:
    """(length / 2, length): eight pixels, by the cubic kernel stretched to twice its width; borders are repeated."""
    weights = [_cubic((tap - 3.5) / 2) for tap in range(8)]
    matrix = torch.zeros(length // 2, length, dtype=torch.float64, device=device)
    first = 2 * torch.arange(length // 2, device=device) - 3
    old = torch.arange(length, device=device)
    for tap, weight in enumerate(weights):
        at = first + tap
        at = torch.where(at < 0, -1 - at, torch.where(at >= length, 2 * length - 1 - at, at))
        matrix += weight / math.fsum(weights) * (at[:, None] == old)
    return matrix


def _cubic(x: float) -> float:
    """Keys's kernel with a = -0.5."""
    x = abs(x)
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0
