"""Convolutions with gradients of any order that are convolutions themselves.

R1 and path length differentiate gradients. There PyTorch writes the second derivative of a convolution as one whose
kernel is as large as the picture, which no library is made for. A gradient with respect to the input is a transposed
convolution and one with respect to the weight is linear in two feature maps, so two Functions close the circle.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.models.weight_gradient import products_pay, weight_gradient
from tenshot.models.winograd import winograd_conv, winograd_pays, winograd_weight_gradient
from tenshot.models.winograd_strided import (
    strided_winograd_conv,
    strided_winograd_conv_transpose,
    strided_winograd_pays,
    strided_winograd_weight_gradient,
)

__all__ = ["conv2d", "conv_transpose2d"]


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, exact: bool = False
) -> Tensor:
    """As ``F.conv2d``: x (N, C, H, W), weight (C', C, k, k), bias (C',) -> (N, C', H', W').

    With a stride, H + 2 * padding - k must be a multiple of it. ``exact``: without Winograd's rounding errors.
    """
    out: Tensor = _Conv.apply(x, weight, bias, stride, padding, False, exact)
    return out


def conv_transpose2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, exact: bool = False) -> Tensor:
    """As ``F.conv_transpose2d``: x (N, C, H, W), weight (C, C', k, k) -> (N, C', H', W')."""
    out: Tensor = _Conv.apply(x, weight, None, stride, padding, True, exact)
    return out


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        transposed: bool,
        exact: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.arguments = stride, padding, transposed
        if not exact:
            if (stride, padding) == (1, 1) and winograd_pays(x, weight.shape):
                return winograd_conv(x, weight, bias, transposed)
            if (stride, padding, transposed) == (2, 0, False) and strided_winograd_pays(x, weight.shape):
                return strided_winograd_conv(x, weight, bias)
            if (stride, padding, transposed) == (2, 0, True) and winograd_pays(x, weight.shape):
                return strided_winograd_conv_transpose(x, weight)
        return (F.conv_transpose2d if transposed else F.conv2d)(x, weight, bias, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, transposed = ctx.arguments
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _Conv.apply(grad, weight, None, stride, padding, not transposed, False)
        if ctx.needs_input_grad[1]:
            pair = (grad, x) if transposed else (x, grad)
            grad_weight = _WeightGradient.apply(*pair, weight.shape, stride, padding)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias, None, None, None, None


class _WeightGradient(torch.autograd.Function):
    """Of the convolution that makes maps like ``grad`` of maps like ``x``; linear in each of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grad: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, grad)
        ctx.arguments = stride, padding
        if shape[2:] == (3, 3) and (stride, padding) == (1, 1):
            if winograd_pays(x, shape):
                return winograd_weight_gradient(x, grad)
            if products_pay(x):
                return weight_gradient(x, grad)
        if (stride, padding) == (2, 0) and strided_winograd_pays(x, shape):
            return strided_winograd_weight_gradient(x, grad)
        if products_pay(x) and stride > 1 and padding == 0:
            return _strided_weight_gradient(x, grad, shape, stride)
        _, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, x.new_empty(1).expand(shape), None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1,
            [False, True, False],
        )  # fmt: skip
        return grad_weight

    @staticmethod
    def backward(ctx: Any, grad_weight: Tensor) -> tuple[Tensor | None, ...]:
        x, grad = ctx.saved_tensors
        stride, padding = ctx.arguments
        grad_x = grad_grad = None
        if ctx.needs_input_grad[0]:
            grad_x = _Conv.apply(grad, grad_weight, None, stride, padding, True, False)
        if ctx.needs_input_grad[1]:
            grad_grad = _Conv.apply(x, grad_weight, None, stride, padding, False, False)
        return grad_x, grad_grad, None, None, None


def _strided_weight_gradient(x: Tensor, grad: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """As one matrix product for each tap, which reads every ``stride``-th pixel; without padding."""
    height, width = (stride * (size - 1) + 1 for size in grad.shape[2:])
    outputs = grad.permute(0, 2, 3, 1).reshape(-1, shape[0]).t()  # (C', L)
    weight = x.new_empty(shape[0], *shape[2:], shape[1])
    for dy in range(shape[2]):
        for dx in range(shape[3]):
            seen = x[:, :, dy : dy + height : stride, dx : dx + width : stride]
            torch.mm(outputs, seen.permute(0, 2, 3, 1).reshape(-1, shape[1]), out=weight[:, dy, dx])
    return weight.permute(0, 3, 1, 2)
