"""3x3 convolutions with stride 2 by Winograd's minimal filtering, as StyleGAN2 halves and doubles its maps.

Even rows meet two of the kernel's rows, odd ones the third; columns likewise. Where two meet, F(4, 2) takes 5
multiplications instead of 8, so tiles of 4x4 small pixels take 81 instead of 144 (Lavin and Gray, arXiv 1509.09308,
section 4, with the interpolation points 0, 1, -1 and 2). Maps are taken and given in channels_last memory.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tenshot.models import winograd

__all__ = [
    "strided_winograd_conv",
    "strided_winograd_conv_transpose",
    "strided_winograd_pays",
    "strided_winograd_weight_gradient",
]

_EVEN = torch.tensor(
    [[1 / 2, 0, 0], [-1 / 2, 0, -1 / 2], [-1 / 6, 0, 1 / 6], [1 / 6, 0, 1 / 3], [0, 0, 1]], dtype=torch.float64
)
_ODD = torch.tensor([[0, 1, 0]], dtype=torch.float64)
_COUNTS = 25, 5, 5, 1
_KERNEL = torch.cat([torch.kron(rows, columns) for rows in (_EVEN, _ODD) for columns in (_EVEN, _ODD)])  # (36, 9)


class Terms(NamedTuple):
    """Maps, or kernels, by what they are multiplied with: even and odd rows, even and odd columns."""

    ee: Tensor  # (25, L, C)
    eo: Tensor  # (5, 4 L, C)
    oe: Tensor  # (5, 4 L, C)
    oo: Tensor  # (1, 16 L, C)


def strided_winograd_pays(x: Tensor, weight: Sequence[int]) -> bool:
    """Whether this is the faster way for maps x (N, C, 2 H + 1, 2 W + 1), as ``winograd_pays`` for (N, C', H, W)."""
    height, width = x.shape[2:]
    return height % 2 == width % 2 == 1 and winograd.winograd_pays(x[:, :, :-1:2, :-1:2], weight)


def strided_winograd_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As ``F.conv2d(x, weight, bias, stride=2)``.

    Args:
        x: (N, C, 2 H + 1, 2 W + 1), H and W multiples of 4.
        weight: (C', C, 3, 3)
        bias: (C',)

    Returns:
        (N, C', H, W)
    """
    kernels = Terms(*(kernel.transpose(1, 2) for kernel in _kernels(weight)))
    n, height, width = len(x), x.shape[2] // 2, x.shape[3] // 2
    shape = n, len(weight), height, width
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for some in _chunks(n, height, width):
        terms, pixels = _seen(x[some].permute(0, 2, 3, 1)), out[some].permute(0, 2, 3, 1)
        count, channels = len(pixels), len(weight)
        both = torch.bmm(terms.ee, kernels.ee).view(5, 5, count, height // 4, width // 4, channels)
        columns = both.new_empty(5, count, height // 4, width, channels)
        _outputs(both.unbind(1), columns.unflatten(3, (-1, 4)).unbind(4))
        columns.view(5, -1, channels).baddbmm_(terms.eo, kernels.eo)
        odd = torch.bmm(terms.oe, kernels.oe).view(5, count, height, width // 4, channels)
        _outputs(odd.unbind(0), pixels.unflatten(2, (-1, 4)).unbind(3))
        pixels.view(-1, channels).addmm_(terms.oo[0], kernels.oo[0])
        rows = both.new_empty(4, count, height // 4, width, channels)
        _outputs(columns.unbind(0), rows.unbind(0))
        for number, row in enumerate(rows):
            pixels[:, number::4] += row
    if bias is not None:
        out += bias.view(1, -1, 1, 1)
    return out


def strided_winograd_conv_transpose(x: Tensor, weight: Tensor) -> Tensor:
    """As ``F.conv_transpose2d(x, weight, stride=2)``.

    Args:
        x: (N, C, H, W), sides multiples of 4.
        weight: (C, C', 3, 3)

    Returns:
        (N, C', 2 H + 1, 2 W + 1)
    """
    kernels = _kernels(weight)
    n, _, height, width = x.shape
    channels = weight.shape[1]
    shape = n, channels, 2 * height + 1, 2 * width + 1
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for some in _chunks(n, height, width):
        terms, pixels = _spread(x[some].permute(0, 2, 3, 1)), out[some].permute(0, 2, 3, 1)
        tiles = len(pixels), height // 4, width // 4, channels
        half = x.new_empty(5, *tiles[:2], 2 * width + 1, channels)
        half[:, :, :, 1::2] = torch.bmm(terms.eo, kernels.eo).view(5, *tiles[:2], width, channels)
        _add_up(torch.bmm(terms.ee, kernels.ee).view(5, 5, *tiles).unbind(1), half[:, :, :, ::2], 3)
        _add_up(half.unbind(0), pixels[:, ::2], 1)
        odd = pixels[:, 1::2]
        odd[:, :, 1::2] = torch.bmm(terms.oo, kernels.oo).view(-1, height, width, channels)
        _add_up(torch.bmm(terms.oe, kernels.oe).view(5, -1, height, *tiles[2:]).unbind(0), odd[:, :, ::2], 2)
    return out


def strided_winograd_weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Gradient of ``conv2d(x, weight, stride=2)`` with respect to a 3x3 weight.

    Args:
        x: (N, C, 2 H + 1, 2 W + 1) input, H and W multiples of 4.
        grad: (N, C', H, W) gradient of the output.

    Returns:
        (C', C, 3, 3), in channels_last.
    """
    shape = grad.shape[1], x.shape[1]
    sums = x.new_zeros(36, *shape)
    for some in _chunks(len(x), *grad.shape[2:]):
        seen, spread = _seen(x[some].permute(0, 2, 3, 1)), _spread(grad[some].permute(0, 2, 3, 1))
        for total, ours, theirs in zip(sums.split(_COUNTS), spread, seen, strict=True):
            total.baddbmm_(ours.transpose(1, 2), theirs)
    weight = (_KERNEL.to(x).t() @ sums.view(36, -1)).view(3, 3, *shape)
    return weight.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)


def _kernels(weight: Tensor) -> Terms:
    """Of a weight (C, C', 3, 3), each (., C, C')."""
    kernels = (_KERNEL.to(weight) @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, *weight.shape[:2])
    return Terms(*kernels.split(_COUNTS))


def _chunks(n: int, height: int, width: int) -> Iterator[slice]:
    """Which pictures to take at a time."""
    together = max(1, 16 * winograd.TILES_AT_A_TIME // (height * width))
    for first in range(0, n, together):
        yield slice(first, min(first + together, n))


def _seen(pixels: Tensor) -> Terms:
    """What the kernel meets in large maps (n, 2 H + 1, 2 W + 1, C)."""
    n, height, width, channels = pixels.shape
    tiles = n, height // 8, width // 8, channels
    half = pixels.new_empty(5, n, tiles[1], width, channels)
    _inputs([_every(pixels, 1, 2 * i, 8) for i in range(5)], half.unbind(0))
    ee = pixels.new_empty(5, 5, *tiles)
    _inputs([_every(half, 3, 2 * i, 8) for i in range(5)], ee.unbind(1))
    odd = pixels[:, 1::2]
    oe = pixels.new_empty(5, n, height // 2, *tiles[2:])
    _inputs([_every(odd, 2, 2 * i, 8) for i in range(5)], oe.unbind(0))
    terms = ee.flatten(0, 1), half[:, :, :, 1::2], oe, odd[:, :, 1::2].unsqueeze(0)
    return Terms(*(term.reshape(len(term), -1, channels) for term in terms))


def _spread(pixels: Tensor) -> Terms:
    """Small maps (n, H, W, C) in the same terms: the transpose of how outputs are made of products."""
    n, height, width, channels = pixels.shape
    tiles = n, height // 4, width // 4, channels
    eo = pixels.new_empty(5, *tiles[:2], width, channels)
    winograd.spread([pixels[:, i::4] for i in range(4)], eo.unbind(0))
    ee = pixels.new_empty(5, 5, *tiles)
    winograd.spread([eo[:, :, :, i::4] for i in range(4)], ee.unbind(1))
    oe = pixels.new_empty(5, n, height, *tiles[2:])
    winograd.spread([pixels[:, :, i::4] for i in range(4)], oe.unbind(0))
    terms = ee.flatten(0, 1), eo, oe, pixels.unsqueeze(0)
    return Terms(*(term.reshape(len(term), -1, channels) for term in terms))


def _every(x: Tensor, dim: int, start: int, step: int) -> Tensor:
    """Every ``step``-th line of an odd number of lines, as many as there are whole steps."""
    count = x.shape[dim] // step
    return x[(slice(None),) * dim + (slice(start, start + step * (count - 1) + 1, step),)]


def _inputs(d: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """One dimension of B^T d B: five maps -> five maps."""
    torch.sub(d[3], d[1], out=out[3])
    torch.sub(d[0], d[2], out=out[0])
    torch.add(out[3], out[0], alpha=2, out=out[0])
    torch.sub(d[3], d[2], out=out[1])
    torch.sub(d[2], d[1], out=out[2])
    torch.sub(out[1], out[2], alpha=2, out=out[2])
    out[1].sub_(d[1], alpha=2)
    torch.sub(d[4], d[2], out=out[4])
    out[4].sub_(out[3], alpha=2)


def _outputs(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """One dimension of A^T m A: five maps -> four maps."""
    even, odd = m[1] + m[2], m[1] - m[2]
    torch.add(even, m[0], out=out[0])
    out[0].add_(m[3])
    torch.add(odd, m[3], alpha=2, out=out[1])
    torch.add(even, m[3], alpha=4, out=out[2])
    torch.add(odd, m[3], alpha=8, out=out[3])
    out[3].add_(m[4])


def _add_up(m: Sequence[Tensor], out: Tensor, dim: int) -> None:
    """One dimension of B m B^T: five maps of T tiles -> 4 T + 1 lines, of which neighbours share one."""
    lines = [_every(out, dim, i, 4) for i in range(5)]
    out.select(dim, -1).zero_()
    outer, inner, twice = m[0] + m[3], m[1] + m[2], m[0] + m[0]
    lines[0].copy_(twice)
    lines[4].add_(m[4])
    torch.sub(m[2] + m[4], m[1], out=lines[1])
    lines[1].mul_(2).sub_(outer)
    torch.add(twice.add_(inner), m[2], alpha=2, out=lines[2])
    lines[2].add_(m[4]).neg_()
    torch.add(outer, inner, out=lines[3])
    lines[3].sub_(m[4], alpha=2)
