"""Group norm, modulation, SiLU and convolution as one autograd node that keeps only its input.

On GPUs the norm is computed by Triton kernels (``norm_act_triton``), where :func:`kernels_for` gives them.

Written out, the chain keeps three or four feature maps for the backward pass. Here the backward pass rebuilds the
activation from the input and the norm's statistics (one multiply-add and one SiLU; no convolution is done twice), so
that a training step keeps less than half as much. Feature maps stay in the dtype they came in: under autocast a plain
``group_norm`` would hand float32 on.
"""

import warnings
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["norm_act", "norm_act_conv"]

aten = torch.ops.aten


@cache
def _kernels(device: torch.device) -> ModuleType | None:
    """The kernels, loaded and tried at the first use of a GPU, or nothing where Triton is missing or does not work."""
    try:
        kernels = import_module("tenshot.models.norm_act_triton")
        kernels.check(device)
    except Exception as error:  # of many kinds: no Triton, no C compiler, no headers, an old driver
        said = str(error).strip().split("\n")[0]
        warnings.warn(
            f"Triton does not work here ({type(error).__name__}: {said}): group norm is computed by PyTorch's "
            "operations, which are slower",
            stacklevel=2,
        )
        return None
    return kernels


def kernels_for(x: Tensor) -> ModuleType | None:
    """The module of kernels, ``norm_act_triton``, for maps like x, or None for PyTorch's operations.

    The kernels take plain tensors on a GPU, in channels_last memory, not float64, and are opaque to ``torch.compile``,
    which makes its own.
    """
    if (
        not x.is_cuda
        or torch.compiler.is_compiling()
        or type(x) not in (Tensor, nn.Parameter)
        or x.dtype not in (torch.float32, torch.bfloat16, torch.float16)
        or x.numel() == 0
        or not x.is_contiguous(memory_format=torch.channels_last)
        or x.get_device() != torch.cuda.current_device()  # where kernels are launched
    ):
        return None
    return _kernels(x.device)


def _affine(norm: nn.GroupNorm, modulation: Tensor | None) -> tuple[Tensor, Tensor]:
    """Factor and offset after normalisation: (C,), or (N, C) with a modulation (N, 2C) = (scale, shift)."""
    weight, bias = cast(Tensor, norm.weight), cast(Tensor, norm.bias)
    if modulation is None:
        return weight, bias
    scale, shift = (1 + modulation[:, : len(weight)]), modulation[:, len(weight) :]
    return weight * scale, torch.addcmul(shift, bias, scale)


def normalize(x: Tensor, factor: Tensor, offset: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Group normalisation and modulation; every norm of a network goes through here.

    The library's ``native_group_norm`` refuses channels_last maps off the CPU up to PyTorch 2.13, returns NCHW after,
    and in bf16 rounds its statistics.

    Args:
        x: (N, C, H, W).
        factor: (C,) or (N, C) float32 (float64 with a float64 x), likewise ``offset``.
        offset: Added to ``factor * normalised``.
        groups: Groups of channels.
        eps: Added to the variance.

    Returns:
        The result in the dtype and memory format of x; mean and reciprocal standard deviation of each group, (N, G), in
        float32 at least.
    """
    full = torch.promote_types(x.dtype, torch.float32)
    size = x[0].numel() // groups
    mean = x.sum((2, 3), dtype=full).view(len(x), groups, -1).sum(2) / size
    if x.dtype == full:  # about the mean, as a mean of squares less a square of the mean has fewer digits
        squares = (x - _per_pixel(_per_channel(mean, x))).square_().sum((2, 3))
        variance = squares.view(len(x), groups, -1).sum(2) / size
    else:  # more digits than x has, and no map in float32
        squares = torch.linalg.vector_norm(x, dim=(2, 3), dtype=full).square_()
        variance = (squares.view(len(x), groups, -1).sum(2) / size).addcmul_(mean, mean, value=-1).clamp_(min=0)
    rstd = (variance + eps).rsqrt_()
    return _affine_again(x, mean, rstd, factor, offset), mean, rstd


def _affine_again(x: Tensor, mean: Tensor, rstd: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Normalise and modulate, folded into one multiply-add per pixel, with coefficients of full precision."""
    gain = factor * _per_channel(rstd, x)  # (N, C)
    shift = torch.addcmul(offset, _per_channel(mean, x), gain, value=-1)
    return _multiply_add(x, gain, shift)


def _multiply_add(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """gain * x + shift, rounded once: x (N, C, H, W), whose dtype and memory format it keeps; the others (N, C)."""
    gain, shift = _per_pixel(gain), _per_pixel(shift)
    if torch.compiler.is_compiling():  # up to PyTorch 2.13 a graph ends at an out= in channels_last
        return torch.addcmul(shift, x.to(shift.dtype), gain).to(x.dtype)
    return torch.addcmul(shift, x, gain, out=torch.empty_like(x))


def _per_channel(value: Tensor, x: Tensor) -> Tensor:
    """(N, G) -> (N, C) of the feature map x."""
    return value.repeat_interleave(x.shape[1] // value.shape[1], dim=1)


def _per_pixel(coefficient: Tensor) -> Tensor:
    """(C,) or (N, C) -> broadcastable against a feature map."""
    return coefficient[..., None, None]


def norm_act(x: Tensor, norm: nn.GroupNorm, modulation: Tensor | None = None, activation: bool = True) -> Tensor:
    """SiLU(GroupNorm(x)) with an optional modulation, keeping only x for the backward pass.

    Args:
        x: (N, C, H, W); the result keeps its dtype and memory format.
        norm: The norm with its weight and bias.
        modulation: (N, 2C) float32: scale and shift, ``norm(x) * (1 + scale) + shift``.
        activation: Whether SiLU follows.
    """
    kernels = kernels_for(x)
    if kernels is not None:
        arguments = (x, norm.weight, norm.bias, modulation, norm.num_groups, norm.eps, activation)
        return cast(Tensor, kernels.norm_act(*arguments) if torch.is_grad_enabled() else kernels.forward(*arguments)[0])
    with torch.autocast(x.device.type, enabled=False):
        factor, offset = _affine(norm, modulation)
        if torch.is_grad_enabled():
            return cast(Tensor, _NormAct.apply(x, factor, offset, norm.num_groups, norm.eps, activation))
        hidden, _, _ = normalize(x, factor, offset, norm.num_groups, norm.eps)
        return F.silu(hidden, inplace=True) if activation else hidden


class _NormAct(torch.autograd.Function):
    """SiLU(factor * normalise(x) + offset), with or without SiLU, keeping x and the statistics."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, factor: Tensor, offset: Tensor, groups: int, eps: float, activation: bool
    ) -> Tensor:
        hidden, mean, rstd = normalize(x, factor, offset, groups, eps)
        ctx.save_for_backward(x, mean, rstd, factor, offset)
        ctx.activation = activation
        return F.silu(hidden, inplace=True) if activation else hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, factor, offset = ctx.saved_tensors
        if ctx.activation:
            grad = aten.silu_backward(grad, _affine_again(x, mean, rstd, factor, offset))
        return *_norm_backward(grad, x, mean, rstd, factor, ctx.needs_input_grad[0]), None, None, None


class _NormActConv(torch.autograd.Function):
    """SiLU(factor * normalise(x) + offset) * weight + bias, keeping x and the statistics."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, factor: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        hidden, mean, rstd = normalize(x, factor, offset, groups, eps)
        ctx.save_for_backward(x, mean, rstd, factor, offset, weight)
        activated = F.silu(hidden, inplace=True)
        return F.conv2d(activated, weight, bias, padding=weight.shape[-1] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, factor, offset, weight = ctx.saved_tensors
        hidden = _affine_again(x, mean, rstd, factor, offset)
        grad_activated, grad_weight, grad_bias = _conv_backward(grad, F.silu(hidden), weight, ctx.needs_input_grad[3:5])
        grad_hidden = aten.silu_backward(grad_activated, hidden)
        grads = _norm_backward(grad_hidden, x, mean, rstd, factor, ctx.needs_input_grad[0])
        return *grads, grad_weight, grad_bias, None, None


def _norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, factor: Tensor, wanted: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of normalisation and modulation with respect to x where wanted, factor and offset."""
    n, height, width = len(x), *x.shape[2:]
    full = mean.dtype
    gain, centre = _per_channel(rstd, x), _per_channel(mean * rstd, x)  # (N, C)
    grad_offset = grad.sum((2, 3), dtype=full)  # (N, C)
    grad_factor = (grad * x).sum((2, 3), dtype=full) * gain - grad_offset * centre
    grad_x = None
    if wanted:
        # less the part along the mean and along the output, again as multiply-adds
        along_mean, along_output = (
            _per_channel((factor * part).view(n, mean.shape[1], -1).mean(2), x) / (height * width) * gain
            for part in (grad_offset, grad_factor)
        )
        constant = along_output * centre - along_mean
        grad_x = _multiply_add(x, -along_output * gain, constant)
        grad_x.addcmul_(grad, _per_pixel(factor * gain))
    if factor.dim() == 1:
        grad_factor, grad_offset = grad_factor.sum(0), grad_offset.sum(0)
    return grad_x, grad_factor, grad_offset


def _conv_backward(grad: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Gradients of a convolution with respect to its input and, where wanted, to weight and bias."""
    pad = weight.shape[-1] // 2
    grads: tuple[Tensor | None, ...] = aten.convolution_backward(
        grad, x, weight, [len(weight)], [1, 1], [pad, pad], [1, 1], False, [0, 0], 1, [True, *wanted]
    )
    return grads


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
        x, weight, bias = x.to(dtype), conv.weight.to(dtype), cast(Tensor, conv.bias).to(dtype)
        kernels = kernels_for(x)
        if kernels is not None:
            out = kernels.norm_act_conv(x, norm.weight, norm.bias, modulation, norm.num_groups, norm.eps, weight, bias)
        else:
            factor, offset = _affine(norm, modulation)
            out = _NormActConv.apply(x, factor, offset, weight, bias, norm.num_groups, norm.eps)
    return cast(Tensor, out)
