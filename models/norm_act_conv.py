"""Group norm, modulation, SiLU and convolution as one autograd node that keeps only its input.

Written out, the chain keeps three or four feature maps for the backward pass. Here the backward pass rebuilds the
activation from the input and the norm's statistics (one multiply-add and one SiLU; no convolution is done twice), so
that a training step keeps less than half as much. Feature maps stay in the dtype they came in: under autocast a plain
``group_norm`` would hand float32 on.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tenshot.models.weight_gradient import products_pay, weight_gradient
from tenshot.models.winograd import winograd_conv, winograd_pays, winograd_weight_gradient

__all__ = ["norm_act", "norm_act_conv"]

aten = torch.ops.aten


def _affine(norm: nn.GroupNorm, modulation: Tensor | None) -> tuple[Tensor, Tensor]:
    """Factor and offset after normalisation: (C,), or (N, C) with a modulation (N, 2C) = (scale, shift)."""
    weight, bias = cast(Tensor, norm.weight), cast(Tensor, norm.bias)
    if modulation is None:
        return weight, bias
    scale, shift = (1 + modulation[:, : len(weight)]), modulation[:, len(weight) :]
    return weight * scale, torch.addcmul(shift, bias, scale)


def _normalize(x: Tensor, factor: Tensor, offset: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """factor * normalise(x) + offset, mean (N, G), reciprocal standard deviation (N, G)."""
    n, c, height, width = x.shape
    shared = (factor.to(x.dtype), offset.to(x.dtype)) if factor.dim() == 1 else (None, None)
    hidden, mean, rstd = aten.native_group_norm(x, *shared, n, c, height * width, groups, eps)
    if factor.dim() == 2:
        hidden = torch.addcmul(_per_pixel(offset, x), hidden, _per_pixel(factor, x))
    return hidden, mean, rstd


def _per_pixel(coefficient: Tensor, x: Tensor) -> Tensor:
    """(C,) or (N, C) -> broadcastable against the feature map x, in its dtype."""
    return coefficient.to(x.dtype)[..., None, None]


def norm_act(x: Tensor, norm: nn.GroupNorm, modulation: Tensor | None = None, activation: bool = True) -> Tensor:
    """SiLU(GroupNorm(x)) with an optional modulation, as separate autograd nodes.

    Args:
        x: (N, C, H, W); the result keeps its dtype and memory format.
        norm: The norm with its weight and bias.
        modulation: (N, 2C) float32: scale and shift, ``norm(x) * (1 + scale) + shift``.
        activation: Whether SiLU follows.
    """
    with torch.autocast(x.device.type, enabled=False):
        hidden, _, _ = _normalize(x, *_affine(norm, modulation), norm.num_groups, norm.eps)
        return F.silu(hidden, inplace=not torch.is_grad_enabled()) if activation else hidden


class _NormActConv(torch.autograd.Function):
    """SiLU(factor * normalise(x) + offset) * weight + bias, keeping x and the statistics."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, factor: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        hidden, mean, rstd = _normalize(x, factor, offset, groups, eps)
        ctx.save_for_backward(x, mean, rstd, factor, offset, weight)
        ctx.groups = groups
        activated = F.silu(hidden, inplace=True)
        if winograd_pays(x, weight.shape):
            return winograd_conv(activated, weight, bias)
        return F.conv2d(activated, weight, bias, padding=weight.shape[-1] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, factor, offset, weight = ctx.saved_tensors
        n, c, height, width = x.shape
        # normalise and modulate again, folded into one multiply-add per pixel
        full = torch.promote_types(x.dtype, torch.float32)
        gain = rstd.to(full).repeat_interleave(c // ctx.groups, dim=1)  # (N, C)
        centre = mean.to(full).repeat_interleave(c // ctx.groups, dim=1) * gain
        hidden = torch.addcmul(_per_pixel(offset - factor * centre, x), x, _per_pixel(factor * gain, x))
        grad_activated, grad_weight, grad_bias = _conv_backward(grad, F.silu(hidden), weight, ctx.needs_input_grad[3:5])
        grad_hidden = aten.silu_backward(grad_activated, hidden)
        grad_offset = grad_hidden.sum((2, 3), dtype=full)  # (N, C)
        grad_factor = (grad_hidden * x).sum((2, 3), dtype=full) * gain - grad_offset * centre
        grad_x = None
        if ctx.needs_input_grad[0]:
            # through the norm: less the part along its mean and along its output, again as multiply-adds
            along_mean, along_output = (
                (factor * part).view(n, ctx.groups, -1).mean(2).repeat_interleave(c // ctx.groups, dim=1)
                / (height * width) * gain for part in (grad_offset, grad_factor)
            )  # fmt: skip
            constant = along_output * centre - along_mean
            grad_x = torch.addcmul(_per_pixel(constant, x), x, _per_pixel(-along_output * gain, x))
            grad_x.addcmul_(grad_hidden, _per_pixel(factor * gain, x))
        if factor.dim() == 1:
            grad_factor, grad_offset = grad_factor.sum(0), grad_offset.sum(0)
        return grad_x, grad_factor, grad_offset, grad_weight, grad_bias, None, None


def _conv_backward(grad: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Gradients of a convolution with respect to its input and, where wanted, to weight and bias."""
    pad = weight.shape[-1] // 2
    if winograd_pays(x, weight.shape):
        return (
            winograd_conv(grad, weight, transposed=True),
            winograd_weight_gradient(x, grad) if wanted[0] else None,
            grad.sum((0, 2, 3)) if wanted[1] else None,
        )
    products = wanted[0] and pad == 1 and products_pay(x)
    # oneDNN has weight and bias in one kernel: asked for the bias alone, it computes both
    mask = [True, False, False] if products else [True, *wanted]
    grad_x, grad_weight, grad_bias = aten.convolution_backward(
        grad, x, weight, [len(weight)], [1, 1], [pad, pad], [1, 1], False, [0, 0], 1, mask
    )
    if products:
        grad_weight, grad_bias = weight_gradient(x, grad), grad.sum((0, 2, 3))
    return grad_x, grad_weight, grad_bias


def norm_act_conv(x: Tensor, norm: nn.GroupNorm, conv: nn.Conv2d, modulation: Tensor | None = None) -> Tensor:
    """conv(SiLU(GroupNorm(x))) with an optional modulation, keeping only x for the backward pass.

    Args:
        x: (N, C, H, W).
        norm: The norm with its weight and bias.
        conv: A convolution of stride 1 with "same" padding and a bias.
        modulation: (N, 2C) float32: scale and shift, ``norm(x) * (1 + scale) + shift``.

    Returns:
        (N, conv.out_channels, H, W), in the autocast dtype where autocast is on.
    """
    if not torch.is_grad_enabled():
        return cast(Tensor, conv(norm_act(x, norm, modulation)))
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        weight, bias = conv.weight.to(dtype), cast(Tensor, conv.bias).to(dtype)
        factor, offset = _affine(norm, modulation)
        out = _NormActConv.apply(x.to(dtype), factor, offset, weight, bias, norm.num_groups, norm.eps)
    return cast(Tensor, out)
