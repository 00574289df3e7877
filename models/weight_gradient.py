"""The weight gradient of a 3x3 convolution as nine matrix products, for CPUs where that is the faster way."""

import torch
from torch import Tensor

__all__ = ["products_pay", "weight_gradient"]


def products_pay(x: Tensor) -> bool:
    """Whether this is the faster way for feature maps like x: (N, C, H, W).

    On CPUs with AVX2 alone oneDNN's kernel reads channels_last badly and takes half of a training step. With AVX-512
    it does not, and below 16 px the border is too large a part of the products.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[2] * x.shape[3] >= 16**2
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
    )


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Gradient of ``conv2d(x, weight, padding=1)`` with respect to a 3x3 weight.

    Pixels become rows of a matrix in which one zero column ends each line and one zero line each picture. A shift by
    (dy, dx) then is a shift by dy * (W + 1) + dx rows, whatever the pixel, and reads zeros beyond a border.

    Args:
        x: (N, C, H, W) input.
        grad: (N, C', H, W) gradient of the output.

    Returns:
        (C', C, 3, 3), in channels_last.
    """
    width = x.shape[3] + 1
    margin = width + 1  # the largest shift
    rows, outputs = _framed(x, margin), _framed(grad, 0).t()  # (margin + L + margin, C), (C', L)
    weight = x.new_empty(grad.shape[1], 3, 3, x.shape[1])
    for dy in range(3):
        for dx in range(3):
            start = margin + (dy - 1) * width + (dx - 1)
            torch.mm(outputs, rows[start : start + outputs.shape[1]], out=weight[:, dy, dx])
    return weight.permute(0, 3, 1, 2)


def _framed(x: Tensor, margin: int) -> Tensor:
    """(N, C, H, W) -> (margin + N * (H + 1) * (W + 1) + margin, C): its pixels, and zeros."""
    n, channels, height, width = x.shape
    rows = x.new_empty(2 * margin + n * (height + 1) * (width + 1), channels)
    rows[:margin].zero_()
    rows[len(rows) - margin :].zero_()
    pictures = rows[margin : len(rows) - margin].view(n, height + 1, width + 1, channels)
    pictures[:, height].zero_()
    pictures[:, :height, width].zero_()
    pictures[:, :height, :width].copy_(x.permute(0, 2, 3, 1))
    return rows
