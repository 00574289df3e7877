"""FIR resampling: insert zeros, filter, decimate, with gradients of any order that cost no more than the filter itself.

StyleGAN2's blur, up- and downsampling are depthwise filters. PyTorch's own second derivative of a depthwise
convolution goes channel by channel, which made R1 and path length the slowest part of training. The adjoint of the
operation is the operation itself, with flipped taps, up and down exchanged: so the backward pass here is a call of the
same Function, which again can be differentiated.

How the filter itself is computed is the value of ``filtered``: ``by_device``, which is ``nchw`` on GPUs and
``depthwise`` elsewhere. ``depthwise`` is one convolution; ``nchw`` the same in the other memory format; ``separable``
one convolution along each axis; ``pooled``, for [1, 3, 3, 1] = [1, 1] * [1, 1] * [1, 1] alone, means over 2x2 pixels.
They differ in speed, by device and memory format, and in rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Resample", "by_device", "depthwise", "fir_resample", "nchw", "pooled", "separable"]

_TAPS = (1.0, 3.0, 3.0, 1.0)
Pair = tuple[int, int]


def fir_resample(
    x: Tensor, taps: Tensor, up: int = 1, down: int = 1, padding: tuple[int, int] = (0, 0), gain: float = 1.0
) -> Tensor:
    """Insert ``up - 1`` zeros after every sample, pad, convolve both axes with the taps, keep every ``down``-th sample.

    It is a true convolution (the taps are flipped, as in signal processing), the same along both axes.

    Args:
        x: (N, C, H, W).
        taps: (K,), of any dtype; no gradient reaches them.
        up: Factor of the zero insertion, which also appends zeros after the last sample.
        down: Factor of the decimation, which keeps the first sample.
        padding: Zeros before and after each axis; negative numbers crop.
        gain: Multiplies the result.

    Returns:
        (N, C, H', W') with ``H' = (H * up + sum(padding) - K) // down + 1``.
    """
    kernel = (taps.outer(taps) * gain).to(x.dtype)
    height, width = ((size * up + sum(padding) - len(taps)) // down + 1 for size in x.shape[2:])
    out: Tensor = _Fir.apply(x, kernel.flip(0, 1), gain, up, down, (padding[0], padding[0]), (height, width))
    return out


class Resample(nn.Module):
    """StyleGAN2's filter [1, 3, 3, 1], normalised; multiplied by ``up`` squared, so that a constant stays constant.

    Args:
        padding: See :func:`fir_resample`, as the other two.
        up: Factor of the zero insertion.
        down: Factor of the decimation.
        gain: Of the filter; default ``up ** 2``.
    """

    taps: Tensor

    def __init__(self, padding: tuple[int, int], up: int = 1, down: int = 1, gain: float | None = None) -> None:
        super().__init__()
        self.padding, self.up, self.down = padding, up, down
        self.gain = up**2 if gain is None else gain
        self.register_buffer("taps", torch.tensor(_TAPS) / sum(_TAPS), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        return fir_resample(x, self.taps, self.up, self.down, self.padding, self.gain)


class _Fir(torch.autograd.Function):
    """``before`` zeros precede each axis; what follows them is whatever the size of the result asks for."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, gain: float, up: int, down: int, before: Pair, size: Pair
    ) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.gain, ctx.up, ctx.down, ctx.before, ctx.size = gain, up, down, before, x.shape[2:]
        return filtered(x, kernel, gain, up, down, before, size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (kernel,) = ctx.saved_tensors
        before = (len(kernel) - 1 - ctx.before[0], len(kernel) - 1 - ctx.before[1])
        grad_x = _Fir.apply(grad, kernel.flip(0, 1), ctx.gain, ctx.down, ctx.up, before, tuple(ctx.size))
        return grad_x, None, None, None, None, None, None


def depthwise(x: Tensor, kernel: Tensor, gain: float, up: int, down: int, before: Pair, size: Pair) -> Tensor:
    """Insert zeros, pad, correlate with a kernel, decimate, by one convolution of each channel.

    Args:
        x: (N, C, H, W).
        kernel: (K, K), an outer product, already flipped, in the dtype of x.
        gain: Contained in the kernel, the rest of which sums to 1.
        up: Factor of the zero insertion.
        down: Factor of the decimation.
        before: Zeros before each axis; negative numbers crop.
        size: Height and width of the result; decides what follows the last sample.
    """
    return _rectangular(x, kernel, (up, up), (down, down), before, size)


def nchw(x: Tensor, kernel: Tensor, gain: float, up: int, down: int, before: Pair, size: Pair) -> Tensor:
    """``depthwise``, between two changes of memory format where x is in channels_last."""
    out = depthwise(x.contiguous(), kernel, gain, up, down, before, size)
    last = x.is_contiguous(memory_format=torch.channels_last)
    return out.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def separable(x: Tensor, kernel: Tensor, gain: float, up: int, down: int, before: Pair, size: Pair) -> Tensor:
    """``depthwise``, one axis after the other: 2 K products a pixel for K squared."""
    columns, rows = kernel.sum(1), kernel.sum(0) / kernel.sum()
    x = _rectangular(x, rows[None], (1, up), (1, down), (0, before[1]), (x.shape[2], size[1]))
    return _rectangular(x, columns[:, None], (up, 1), (down, 1), (before[0], 0), size)


def pooled(x: Tensor, kernel: Tensor, gain: float, up: int, down: int, before: Pair, size: Pair) -> Tensor:
    """``depthwise`` for the taps [1, 3, 3, 1] and factors of 1 and 2 alone, by means over 2x2 pixels.

    Doubled by repetition, an image has already been filtered with [1, 1], and multiplied by 4.
    """
    after = _after(x, (4, 4), (up, up), (down, down), before, size)
    if up == 2:
        x, before, gain = F.interpolate(x, scale_factor=2.0, mode="nearest"), (before[0] - 1, before[1] - 1), gain / 4
    elif up != 1:
        raise NotImplementedError(f"pooled FIR filters double the resolution at most, here up is {up}")
    if any((*before, *after)):
        x = F.pad(x, (before[1], after[1], before[0], after[0]))
    for _ in range(2 // up):
        x = F.avg_pool2d(x, 2, stride=1)
    divisor = round(4 / gain)
    if divisor * gain != 4:
        return F.avg_pool2d(x, 2, stride=down) * gain
    return F.avg_pool2d(x, 2, stride=down, divisor_override=divisor)


def by_device(x: Tensor, kernel: Tensor, gain: float, up: int, down: int, before: Pair, size: Pair) -> Tensor:
    """``nchw`` on GPUs, where an iteration takes two thirds of the time so; ``depthwise`` elsewhere."""
    return (nchw if x.is_cuda else depthwise)(x, kernel, gain, up, down, before, size)


filtered: Callable[[Tensor, Tensor, float, int, int, Pair, Pair], Tensor] = by_device
"""Which of them all resampling uses."""


def _after(x: Tensor, length: Pair, up: Pair, down: Pair, before: Pair, size: Pair) -> Pair:
    """Zeros that follow each axis, given those before it and the size of the result."""
    vertical, horizontal = ((size[i] - 1) * down[i] + length[i] - x.shape[2 + i] * up[i] - before[i] for i in range(2))
    return vertical, horizontal


def _rectangular(x: Tensor, kernel: Tensor, up: Pair, down: Pair, before: Pair, size: Pair) -> Tensor:
    """The operation with a kernel (K, L) and factors of each axis."""
    channels, length = x.shape[1], (kernel.shape[0], kernel.shape[1])
    after = _after(x, length, up, down, before, size)
    if up == (1, 1):
        if before != after or min(before) < 0:
            x, before = F.pad(x, (before[1], after[1], before[0], after[0])), (0, 0)
        return F.conv2d(x, kernel.expand(channels, 1, -1, -1), stride=down, padding=before, groups=channels)
    # Scattering by a transposed convolution adds length - 1 samples at either end and leaves out the last zeros.
    weight = kernel.flip(0, 1).expand(channels, 1, -1, -1)
    crop = [side - 1 - first for side, first in zip(length, before, strict=True)]
    extra = [last - first + factor - 1 for first, last, factor in zip(before, after, up, strict=True)]
    if min(crop) < 0 or min(extra) < 0 or any(more >= factor for more, factor in zip(extra, up, strict=True)):
        x = F.conv_transpose2d(x, weight, stride=up, groups=channels)
        x = F.pad(x, (-crop[1], extra[1] - crop[1], -crop[0], extra[0] - crop[0]))
    else:
        x = F.conv_transpose2d(x, weight, stride=up, padding=crop, output_padding=extra, groups=channels)
    return x[..., :: down[0], :: down[1]] if max(down) > 1 else x
