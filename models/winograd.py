"""3x3 convolutions by Winograd's minimal filtering F(4x4, 3x3), for CPUs where that is the faster way.

Tiles of 4x4 outputs are products in a transformed space: 36 multiplications a tile and pair of channels instead of 144
(Lavin and Gray, arXiv 1509.09308, section 4). Each of the 36 is a matrix product over all tiles, which CPUs do best.
Feature maps are taken and given in channels_last memory.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["spread", "winograd_conv", "winograd_pays", "winograd_weight_gradient"]

TILES_AT_A_TIME = 512  # enough for a matrix product, few enough to stay near the processor
FEWEST_CHANNELS = 128
FEWEST_OPERATIONS = 4e9  # of the direct convolution: below, starting threads for many small steps takes what is saved

_G = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
_KERNEL = torch.kron(_G, _G)  # (36, 9): a kernel's transform


def winograd_pays(x: Tensor, weight: Sequence[int]) -> bool:
    """Whether this is the faster way for maps x (N, C, H, W) and a weight of this shape, or for their gradients.

    On CPUs with AVX2 alone, where arithmetic limits; with few channels the transforms take what it saves.
    Rounding errors are about four times those of a direct convolution: 1e-6 of the largest output.
    """
    n, _, height, width = x.shape
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and tuple(weight[2:]) == (3, 3)
        and height % 4 == 0
        and width % 4 == 0
        and min(weight[:2]) >= FEWEST_CHANNELS
        and 18.0 * n * height * width * weight[0] * weight[1] >= FEWEST_OPERATIONS
        and torch.backends.cpu.get_cpu_capability() == "AVX2"
    )


def winograd_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, transposed: bool = False) -> Tensor:
    """As ``F.conv2d(x, weight, bias, padding=1)`` or, transposed, ``F.conv_transpose2d`` likewise, of a 3x3 weight.

    Args:
        x: (N, C, H, W), sides multiples of 4.
        weight: (C', C, 3, 3); transposed (C, C', 3, 3).
        bias: (C',)
        transposed: Which of the two.

    Returns:
        (N, C', H, W)
    """
    kernel = _KERNEL.to(weight)
    if transposed:
        kernel = kernel.flip(1)
    transformed = (kernel @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, *weight.shape[:2])
    if not transposed:
        transformed = transformed.transpose(1, 2)  # (36, C, C')
    n, channels, height, width = x.shape
    padded = _padded(x)
    shape = n, transformed.shape[2], height, width
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    pixels = out.permute(0, 2, 3, 1)
    for some, rows in _chunks(n, height // 4, width // 4):
        tiles = _input_tiles(padded, some, rows)
        products = torch.bmm(tiles.view(36, -1, channels), transformed)
        lines = products.view(6, *tiles.shape[1:-1], -1)  # (6, 6, n, h, w, C')
        columns = torch.empty_like(lines[:4])
        _outputs(lines.unbind(0), columns.unbind(0))
        target = pixels[some, 4 * rows.start : 4 * rows.stop].unflatten(1, (-1, 4)).unflatten(3, (-1, 4))
        _outputs(columns.unbind(1), [target[:, :, :, :, j].permute(2, 0, 1, 3, 4) for j in range(4)])
    if bias is not None:
        pixels += bias
    return out


def winograd_weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Gradient of ``conv2d(x, weight, padding=1)`` with respect to a 3x3 weight.

    Args:
        x: (N, C, H, W) input, sides multiples of 4.
        grad: (N, C', H, W) gradient of the output.

    Returns:
        (C', C, 3, 3), in channels_last.
    """
    n, channels, height, width = x.shape
    padded, pixels = _padded(x), grad.permute(0, 2, 3, 1)
    total = x.new_zeros(36, grad.shape[1], channels)
    for some, rows in _chunks(n, height // 4, width // 4):
        tiles = _input_tiles(padded, some, rows)
        lines = pixels[some, 4 * rows.start : 4 * rows.stop].unflatten(1, (-1, 4))
        half = x.new_empty(6, *lines.shape[:2], width, grad.shape[1])
        spread(lines.unbind(2), half.unbind(0))
        whole = x.new_empty(6, *tiles.shape[1:-1], grad.shape[1])
        spread(half.unflatten(3, (-1, 4)).unbind(4), whole.unbind(1))
        total.baddbmm_(whole.view(36, -1, grad.shape[1]).transpose(1, 2), tiles.view(36, -1, channels))
    weight = (_KERNEL.to(x).t() @ total.view(36, -1)).view(3, 3, grad.shape[1], channels)
    return weight.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)


def _padded(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H + 2, W + 2, C) with a border of zeros."""
    n, channels, height, width = x.shape
    padded = x.new_empty(n, height + 2, width + 2, channels)
    padded[:, 0].zero_()
    padded[:, -1].zero_()
    padded[:, 1:-1, 0].zero_()
    padded[:, 1:-1, -1].zero_()
    padded[:, 1:-1, 1:-1].copy_(x.permute(0, 2, 3, 1))
    return padded


def _chunks(n: int, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Which pictures and rows of tiles to take at a time."""
    together = max(1, TILES_AT_A_TIME // (rows * columns))
    band = max(1, min(rows, TILES_AT_A_TIME // columns))
    for first in range(0, n, together):
        for row in range(0, rows, band):
            yield slice(first, min(first + together, n)), slice(row, min(row + band, rows))


def _input_tiles(padded: Tensor, some: slice, rows: slice) -> Tensor:
    """The transformed 6x6 tiles: (6, 6, n, h, w, C)."""
    part = padded[some, 4 * rows.start : 4 * rows.stop + 2]
    n, height, width, channels = part.shape
    half = padded.new_empty(6, n, height // 4, width, channels)
    _inputs([part[:, i : i + height - 5 : 4] for i in range(6)], half.unbind(0))
    tiles = padded.new_empty(6, 6, n, height // 4, width // 4, channels)
    _inputs([half[:, :, :, i : i + width - 5 : 4] for i in range(6)], tiles.unbind(1))
    return tiles


def _inputs(d: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """One dimension of B^T d B: six maps -> six maps."""
    torch.sub(d[4], d[2], alpha=4, out=out[1])
    torch.sub(d[3], d[1], alpha=4, out=out[0])
    torch.sub(out[1], out[0], out=out[2])
    out[1].add_(out[0])
    torch.sub(d[4], d[2], out=out[3])
    torch.sub(d[3], d[1], out=out[0])
    torch.sub(out[3], out[0], alpha=2, out=out[4])
    out[3].add_(out[0], alpha=2)
    torch.sub(d[4], d[2], alpha=5, out=out[0])
    out[0].add_(d[0], alpha=4)
    torch.sub(d[5], d[3], alpha=5, out=out[5])
    out[5].add_(d[1], alpha=4)


def _outputs(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """One dimension of A^T m A: six maps -> four maps."""
    even, odd = m[1] + m[2], m[1] - m[2]
    even_far, odd_far = m[3] + m[4], m[3] - m[4]
    torch.add(even, even_far, out=out[0])
    out[0].add_(m[0])
    torch.add(odd, odd_far, alpha=2, out=out[1])
    torch.add(even, even_far, alpha=4, out=out[2])
    torch.add(odd, odd_far, alpha=8, out=out[3])
    out[3].add_(m[5])


def spread(y: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """One dimension of A y A^T: four maps -> six maps, or five without the point -2."""
    out[0].copy_(y[0])
    out[-1].copy_(y[3])
    even, odd = y[0] + y[2], y[1] + y[3]
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.add(y[0], y[2], alpha=4, out=even)
    torch.add(y[1], y[3], alpha=4, out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    if len(out) == 6:
        torch.sub(even, odd, alpha=2, out=out[4])
