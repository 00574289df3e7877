"""Group norm, modulation and SiLU on GPUs as autograd functions over the kernels of ``group_norm_triton``.

Needs Triton, which comes with PyTorch for CUDA. :mod:`tenshot.models.norm_act_conv` has the same for everything else,
and decides.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from tenshot.models import group_norm_triton

__all__ = ["activate", "backward", "check", "forward", "norm_act", "norm_act_conv"]

aten = torch.ops.aten
ROWS, COLUMNS = 32, 128
PROGRAMS = 4096
"""About how many programs share a map, where it is large enough: several for each place on the largest GPU."""


@cache
def _strips(n: int, channels: int, pixels: int) -> tuple[tuple[int, int, int], int]:
    """The grid of programs over a map, (strips of an image, N, blocks of channels), and the tiles of a strip."""
    blocks = triton.cdiv(channels, COLUMNS)
    tiles = triton.cdiv(triton.cdiv(pixels, ROWS), max(1, PROGRAMS // (n * blocks)))
    return (triton.cdiv(pixels, tiles * ROWS), n, blocks), tiles


@cache
def _of_group(width: int) -> int:
    """Columns of a program for one group of that many channels: few values, as each is compiled."""
    return max(64, triton.next_power_of_2(width))


def check(device: torch.device) -> None:
    """Compile and launch a kernel.

    Raises:
        Exception: Whatever Triton raises, for instance where there is no C compiler to build its launcher with.
    """
    x = torch.ones(1, COLUMNS, 1, 1, dtype=torch.bfloat16, device=device)
    activate(x, torch.ones(1, 4 * COLUMNS, device=device), True)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor | None, groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor]:
    """``norm(x) * (1 + scale) + shift``, or SiLU of it.

    Args:
        x: (N, C, H, W) in channels_last memory, not empty; float32, bfloat16 or float16.
        weight: (C,), of the norm, likewise ``bias``.
        modulation: (N, 2C): scale and shift.
        groups: Groups of channels.
        eps: Added to the variance.
        silu: Whether SiLU follows.

    Returns:
        The result, like x, and the state for :func:`activate` and :func:`backward`.
    """
    n, channels, height, width = x.shape
    pixels = height * width
    grid, tiles = _strips(n, channels, pixels)
    given = weight if modulation is None else modulation.contiguous()
    partial = torch.empty((n, grid[0], 2, channels), dtype=torch.float32, device=x.device)
    state = torch.empty((n, 2 * (channels + groups)), dtype=torch.float32, device=x.device)
    group_norm_triton.moments[grid](x, partial, pixels, channels, tiles, ROWS, COLUMNS)
    group_norm_triton.coefficients[(n, groups)](
        partial, weight, bias, given, state, pixels, channels, grid[0],
        tiles * ROWS, channels // groups, groups, eps, modulation is not None, 16, _of_group(channels // groups),
    )  # fmt: skip
    return activate(x, state, silu), state


def activate(x: Tensor, state: Tensor, silu: bool) -> Tensor:
    """The result of :func:`forward` again, from its state."""
    n, channels, height, width = x.shape
    grid, tiles = _strips(n, channels, height * width)
    y = torch.empty_like(x)
    group_norm_triton.activate[grid](
        x, state, y, height * width, channels, state.shape[1] // 2 - channels, tiles, silu, ROWS, COLUMNS
    )
    return y


def backward(
    grad: Tensor, x: Tensor, state: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor | None, silu: bool,
    wanted: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Gradients with respect to x where wanted, weight, bias and modulation.

    Args:
        grad: That of the result, in the shape, dtype and memory format of x.
        x: As given to :func:`forward`, likewise ``weight``, ``bias``, ``modulation`` and ``silu``.
        state: As :func:`forward` gave it.
        wanted: Whether x needs one.
    """
    n, channels, height, width = x.shape
    pixels, groups = height * width, state.shape[1] // 2 - channels
    each = channels // groups
    grid, tiles = _strips(n, channels, pixels)
    partial = torch.empty((n, grid[0], 2, channels), dtype=torch.float32, device=x.device)
    along = torch.empty((n, 2, groups), dtype=torch.float32, device=x.device)
    of_layer = torch.empty((2, n, channels), dtype=torch.float32, device=x.device)
    given = weight if modulation is None else modulation.contiguous()
    of_modulation = None if modulation is None else torch.empty_like(given)
    group_norm_triton.gradient_sums[grid](
        grad, x, state, partial, pixels, channels, groups, each, tiles, silu, ROWS, COLUMNS
    )
    group_norm_triton.gradient_coefficients[(n, groups)](
        partial, weight, bias, given, state, along,
        of_layer if of_modulation is None else of_modulation, of_layer, pixels, channels, grid[0], each, groups,
        modulation is not None, 16, _of_group(each),
    )  # fmt: skip
    grad_x = None
    if wanted:
        grad_x = torch.empty_like(x)
        group_norm_triton.gradient[grid](
            grad, x, state, along, grad_x, pixels, channels, groups, each, tiles, silu, ROWS, COLUMNS
        )
    of_weight, of_bias = of_layer.sum(1).unbind()
    return grad_x, of_weight, of_bias, of_modulation


def _like(grad: Tensor, x: Tensor) -> Tensor:
    """A gradient in the dtype and memory format that the kernels read."""
    return grad.to(x.dtype).contiguous(memory_format=torch.channels_last)


class _NormAct(torch.autograd.Function):
    """As ``forward``, with or without SiLU, keeping x and the state."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor | None, groups: int, eps: float,
        silu: bool,
    ) -> Tensor:  # fmt: skip
        y, state = forward(x, weight, bias, modulation, groups, eps, silu)
        ctx.save_for_backward(x, state, weight, bias, modulation)
        ctx.silu = silu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, state, weight, bias, modulation = ctx.saved_tensors
        grads = backward(_like(grad, x), x, state, weight, bias, modulation, ctx.silu, ctx.needs_input_grad[0])
        return *grads, None, None, None


class _NormActConv(torch.autograd.Function):
    """SiLU of ``forward``, then a convolution of stride 1 with "same" padding, keeping x and the state."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor | None, groups: int, eps: float,
        kernel: Tensor, offset: Tensor,
    ) -> Tensor:  # fmt: skip
        activated, state = forward(x, weight, bias, modulation, groups, eps, True)
        ctx.save_for_backward(x, state, weight, bias, modulation, kernel)
        return F.conv2d(activated, kernel, offset, padding=kernel.shape[-1] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, state, weight, bias, modulation, kernel = ctx.saved_tensors
        pad, needed = kernel.shape[-1] // 2, ctx.needs_input_grad
        grad_activated, *of_conv = aten.convolution_backward(
            grad, activate(x, state, True), kernel, [len(kernel)], [1, 1], [pad, pad], [1, 1], False, [0, 0], 1,
            [True, *needed[6:8]],
        )  # fmt: skip
        grads = backward(_like(grad_activated, x), x, state, weight, bias, modulation, True, needed[0])
        return *grads, None, None, *of_conv


norm_act = _NormAct.apply
norm_act_conv = _NormActConv.apply
