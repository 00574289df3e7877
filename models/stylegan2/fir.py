"""FIR resampling: insert zeros, filter, decimate, with gradients of any order that cost no more than the filter itself.

StyleGAN2's blur, up- and downsampling are depthwise filters. PyTorch's own second derivative of a depthwise
convolution goes channel by channel, which made R1 and path length the slowest part of training. The adjoint of the
operation is the operation itself, with flipped taps, up and down exchanged: so the backward pass here is a call of the
same Function, which again can be differentiated.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Resample", "fir_resample"]

_TAPS = (1.0, 3.0, 3.0, 1.0)


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
    out: Tensor = _Fir.apply(x, kernel.flip(0, 1), up, down, (padding[0], padding[0]), (height, width))
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
        ctx: Any, x: Tensor, kernel: Tensor, up: int, down: int, before: tuple[int, int], size: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(kernel)
        ctx.up, ctx.down, ctx.before, ctx.size = up, down, before, x.shape[2:]
        return _correlate(x, kernel, up, down, before, size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (kernel,) = ctx.saved_tensors
        before = (len(kernel) - 1 - ctx.before[0], len(kernel) - 1 - ctx.before[1])
        grad_x = _Fir.apply(grad, kernel.flip(0, 1), ctx.down, ctx.up, before, tuple(ctx.size))
        return grad_x, None, None, None, None, None


def _correlate(x: Tensor, kernel: Tensor, up: int, down: int, before: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The operation with a kernel (K, K) that is already flipped, for the result's first ``size`` samples."""
    channels, length = x.shape[1], len(kernel)
    after = [
        (wanted - 1) * down + length - given * up - first
        for wanted, given, first in zip(size, x.shape[2:], before, strict=True)
    ]
    if up == 1:
        if before != tuple(after) or min(before) < 0:
            x, before = F.pad(x, (before[1], after[1], before[0], after[0])), (0, 0)
        return F.conv2d(x, kernel.expand(channels, 1, -1, -1), stride=down, padding=before, groups=channels)
    # Scattering by a transposed convolution adds length - 1 samples at either end and leaves out the last zeros.
    weight = kernel.flip(0, 1).expand(channels, 1, -1, -1)
    crop = [length - 1 - first for first in before]
    extra = [last - first + up - 1 for first, last in zip(before, after, strict=True)]
    if min(crop) < 0 or min(extra) < 0 or max(extra) >= up:
        x = F.conv_transpose2d(x, weight, stride=up, groups=channels)
        x = F.pad(x, (-crop[1], extra[1] - crop[1], -crop[0], extra[0] - crop[0]))
    else:
        x = F.conv_transpose2d(x, weight, stride=up, padding=crop, output_padding=extra, groups=channels)
    return x[..., ::down, ::down] if down > 1 else x
