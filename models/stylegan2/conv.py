"""Convolutions with gradients of any order that are convolutions themselves.

R1 and path length differentiate gradients. There PyTorch writes the second derivative of a convolution as one whose
kernel is as large as the image, which no library is made for. A gradient with respect to the input is a transposed
convolution and one with respect to the weight is linear in two feature maps, so two Functions close the circle.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["conv2d", "conv_transpose2d"]


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """As ``F.conv2d``: x (N, C, H, W), weight (C', C, k, k), bias (C',) -> (N, C', H', W').

    With a stride, H + 2 * padding - k must be a multiple of it.
    """
    out: Tensor = _Conv.apply(x, weight, bias, stride, padding, False)
    return out


def conv_transpose2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """As ``F.conv_transpose2d``: x (N, C, H, W), weight (C, C', k, k) -> (N, C', H', W')."""
    out: Tensor = _Conv.apply(x, weight, None, stride, padding, True)
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
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.arguments = stride, padding, transposed
        return (F.conv_transpose2d if transposed else F.conv2d)(x, weight, bias, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, transposed = ctx.arguments
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _Conv.apply(grad, weight, None, stride, padding, not transposed)
        if ctx.needs_input_grad[1]:
            pair = (grad, x) if transposed else (x, grad)
            grad_weight = _WeightGradient.apply(*pair, weight.shape, stride, padding)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias, None, None, None


class _WeightGradient(torch.autograd.Function):
    """Of the convolution that makes maps like ``grad`` of maps like ``x``; linear in each of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grad: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, grad)
        ctx.arguments = stride, padding
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
            grad_x = _Conv.apply(grad, grad_weight, None, stride, padding, True)
        if ctx.needs_input_grad[1]:
            grad_grad = _Conv.apply(x, grad_weight, None, stride, padding, False)
        return grad_x, grad_grad, None, None, None
