"""Kernels of group norm, modulation and SiLU on GPUs: three forward, three backward, in place of some forty.

A map in channels_last memory is a matrix of N * H * W rows (pixels) and C columns (channels). A program works on a
strip of it: ``tiles`` times ROWS pixels of one image by COLUMNS channels. Sums over pixels are taken in two steps, one
partial result a strip and then one program for each image and group, in a fixed order: results are deterministic.
All arithmetic is in float32; maps are read and written in their own dtype.

What one call leaves for the next, float32: ``state`` (N, 2C + 2G), in each row gain and shift of each channel, with
which normalisation and modulation are ``gain * x + shift``, then mean and reciprocal standard deviation of each group.
"""

import triton
import triton.language as tl

__all__ = ["activate", "coefficients", "gradient", "gradient_coefficients", "gradient_sums", "moments"]


@triton.jit(do_not_specialize=["pixels", "tiles"])
def moments(x, partial, pixels, channels, tiles, rows: tl.constexpr, columns: tl.constexpr):
    """Reads x; writes mean and sum of squares about it, of each channel in a strip, to partial (N, strips, 2, C).

    Squares are summed about the mean of the strip's first pixels, so that no digits are lost where the mean is large.
    """
    strip, n, block = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    row = tl.arange(0, rows)[:, None]
    column = block * columns + tl.arange(0, columns)[None, :]
    left = pixels - strip * tiles * rows
    size = tl.minimum(left, tiles * rows)
    x += (n * pixels + strip * tiles * rows) * channels
    here = (row < left) & (column < channels)
    value = tl.load(x + row * channels + column, mask=here, other=0.0).to(tl.float32)
    centre = tl.sum(value, axis=0, keep_dims=True) / tl.minimum(left, rows)
    total = tl.where(here, value - centre, 0.0)
    squares = total * total
    for _ in range(1, tiles):
        x += rows * channels
        left -= rows
        here = (row < left) & (column < channels)
        value = tl.load(x + row * channels + column, mask=here, other=0.0).to(tl.float32)
        value = tl.where(here, value - centre, 0.0)
        total += value
        squares += value * value
    beside = tl.sum(total, axis=0, keep_dims=True)
    about = tl.sum(squares, axis=0, keep_dims=True) - beside * beside / size
    partial += (n * tl.num_programs(0) + strip) * 2 * channels
    tl.store(partial + column, centre + beside / size, mask=column < channels)
    tl.store(partial + channels + column, about, mask=column < channels)


@triton.jit(do_not_specialize=["pixels", "strips", "length", "width", "groups"])
def coefficients(
    partial, weight, bias, modulation, state, pixels, channels, strips, length, width, groups, eps,
    modulated: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Reads partial (N, strips, 2, C), weight and bias (C,), modulation (N, 2C); writes state. A program a group.

    ``length`` is the number of pixels of every strip but the last, ``width`` the number of channels of a group.
    """
    n, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    inner = tl.arange(0, columns)[None, :]
    column = group * width + inner
    row = tl.arange(0, rows)[:, None]
    partial += n * strips * 2 * channels
    total = tl.zeros((rows, columns), tl.float32)
    for start in range(0, strips, rows):
        strip = start + row
        here = (strip < strips) & (inner < width)
        count = tl.minimum(pixels - strip * length, length).to(tl.float32)
        total += count * tl.load(partial + strip * 2 * channels + column, mask=here, other=0.0)
    size = pixels.to(tl.float32) * width
    mean = tl.sum(tl.sum(total, axis=1), axis=0) / size
    total = tl.zeros((rows, columns), tl.float32)
    for start in range(0, strips, rows):
        strip = start + row
        here = (strip < strips) & (inner < width)
        count = tl.minimum(pixels - strip * length, length).to(tl.float32)
        beside = tl.load(partial + strip * 2 * channels + column, mask=here, other=0.0) - mean
        about = tl.load(partial + strip * 2 * channels + channels + column, mask=here, other=0.0)
        total += tl.where(here, about + count * beside * beside, 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(tl.sum(total, axis=1), axis=0) / size + eps)
    here = inner < width
    factor = tl.load(weight + column, mask=here, other=0.0).to(tl.float32)
    offset = tl.load(bias + column, mask=here, other=0.0).to(tl.float32)
    if modulated:
        modulation += n * 2 * channels
        scale = 1.0 + tl.load(modulation + column, mask=here, other=0.0).to(tl.float32)
        factor *= scale
        offset = offset * scale + tl.load(modulation + channels + column, mask=here, other=0.0).to(tl.float32)
    state += n * 2 * (channels + groups)
    tl.store(state + column, factor * rstd, mask=here)
    tl.store(state + channels + column, offset - mean * factor * rstd, mask=here)
    tl.store(state + 2 * channels + group, mean)
    tl.store(state + 2 * channels + groups + group, rstd)


@triton.jit(do_not_specialize=["pixels", "tiles", "groups"])
def activate(
    x, state, y, pixels, channels, groups, tiles,
    silu: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Reads x and of state gain and shift; writes y, ``gain * x + shift`` or SiLU of it."""
    strip, n, block = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    row = tl.arange(0, rows)[:, None]
    column = block * columns + tl.arange(0, columns)[None, :]
    left = pixels - strip * tiles * rows
    first = (n * pixels + strip * tiles * rows) * channels
    x += first
    y += first
    state += n * 2 * (channels + groups)
    gain = tl.load(state + column, mask=column < channels, other=0.0)
    shift = tl.load(state + channels + column, mask=column < channels, other=0.0)
    for _ in range(tiles):
        here = (row < left) & (column < channels)
        value = tl.load(x + row * channels + column, mask=here, other=0.0).to(tl.float32) * gain + shift
        if silu:
            value *= tl.sigmoid(value)
        tl.store(y + row * channels + column, value.to(y.dtype.element_ty), mask=here)
        x += rows * channels
        y += rows * channels
        left -= rows


@triton.jit(do_not_specialize=["pixels", "tiles", "groups", "width"])
def gradient_sums(
    grad, x, state, partial, pixels, channels, groups, width, tiles,
    silu: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Reads grad, that of the result, x and state; writes to partial (N, strips, 2, C) sums over a strip's pixels.

    They are those of the gradient after SiLU's derivative, and of the same times the normalised x.
    """
    strip, n, block = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    row = tl.arange(0, rows)[:, None]
    column = block * columns + tl.arange(0, columns)[None, :]
    left = pixels - strip * tiles * rows
    first = (n * pixels + strip * tiles * rows) * channels
    x += first
    grad += first
    state += n * 2 * (channels + groups)
    gain = tl.load(state + column, mask=column < channels, other=0.0)
    shift = tl.load(state + channels + column, mask=column < channels, other=0.0)
    mean = tl.load(state + 2 * channels + column // width, mask=column < channels, other=0.0)
    rstd = tl.load(state + 2 * channels + groups + column // width, mask=column < channels, other=0.0)
    of_offset = tl.zeros((rows, columns), tl.float32)
    of_factor = tl.zeros((rows, columns), tl.float32)
    for _ in range(tiles):
        here = (row < left) & (column < channels)
        value = tl.load(x + row * channels + column, mask=here, other=0.0).to(tl.float32)
        slope = tl.load(grad + row * channels + column, mask=here, other=0.0).to(tl.float32)
        if silu:
            hidden = value * gain + shift
            gate = tl.sigmoid(hidden)
            slope *= gate * (1.0 + hidden * (1.0 - gate))
        of_offset += slope
        of_factor += slope * (value - mean)
        x += rows * channels
        grad += rows * channels
        left -= rows
    partial += (n * tl.num_programs(0) + strip) * 2 * channels
    tl.store(partial + column, tl.sum(of_offset, axis=0, keep_dims=True), mask=column < channels)
    tl.store(partial + channels + column, tl.sum(of_factor, axis=0, keep_dims=True) * rstd, mask=column < channels)


@triton.jit(do_not_specialize=["pixels", "strips", "width", "groups"])
def gradient_coefficients(
    partial, weight, bias, modulation, state, along, of_modulation, of_layer, pixels, channels, strips, width, groups,
    modulated: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Reads partial (N, strips, 2, C), the parameters and of state the deviations. A program a group. Writes
    along (N, 2, G): what to take from the gradient of x along the mean and along the normalised x;
    of_modulation (N, 2C): its gradient;
    of_layer (2, N, C): each image's part in the gradients of weight and bias.
    """
    n, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    inner = tl.arange(0, columns)[None, :]
    column = group * width + inner
    row = tl.arange(0, rows)[:, None]
    partial += n * strips * 2 * channels
    offsets = tl.zeros((rows, columns), tl.float32)
    factors = tl.zeros((rows, columns), tl.float32)
    for start in range(0, strips, rows):
        strip = start + row
        here = (strip < strips) & (inner < width)
        offsets += tl.load(partial + strip * 2 * channels + column, mask=here, other=0.0)
        factors += tl.load(partial + strip * 2 * channels + channels + column, mask=here, other=0.0)
    of_offset = tl.sum(offsets, axis=0, keep_dims=True)
    of_factor = tl.sum(factors, axis=0, keep_dims=True)
    here = inner < width
    factor = tl.load(weight + column, mask=here, other=0.0).to(tl.float32)
    of_weight, of_bias = of_factor, of_offset
    if modulated:
        offset = tl.load(bias + column, mask=here, other=0.0).to(tl.float32)
        scale = 1.0 + tl.load(modulation + n * 2 * channels + column, mask=here, other=0.0).to(tl.float32)
        of_modulation += n * 2 * channels
        kind = of_modulation.dtype.element_ty
        tl.store(of_modulation + column, (of_factor * factor + of_offset * offset).to(kind), mask=here)
        tl.store(of_modulation + channels + column, of_offset.to(kind), mask=here)
        of_weight, of_bias = of_factor * scale, of_offset * scale
        factor *= scale
    rstd = tl.load(state + n * 2 * (channels + groups) + 2 * channels + groups + group)
    size = pixels.to(tl.float32) * width
    along += n * 2 * groups + group
    tl.store(along, tl.sum(tl.sum(factor * of_offset, axis=1), axis=0) / size * rstd)
    tl.store(along + groups, tl.sum(tl.sum(factor * of_factor, axis=1), axis=0) / size * rstd)
    tl.store(of_layer + n * channels + column, of_weight, mask=here)
    tl.store(of_layer + (tl.num_programs(0) + n) * channels + column, of_bias, mask=here)


@triton.jit(do_not_specialize=["pixels", "tiles", "groups", "width"])
def gradient(
    grad, x, state, along, grad_x, pixels, channels, groups, width, tiles,
    silu: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """Reads grad, that of the result, x, state and along; writes the gradient of x."""
    strip, n, block = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    row = tl.arange(0, rows)[:, None]
    column = block * columns + tl.arange(0, columns)[None, :]
    left = pixels - strip * tiles * rows
    first = (n * pixels + strip * tiles * rows) * channels
    x += first
    grad += first
    grad_x += first
    state += n * 2 * (channels + groups)
    along += n * 2 * groups
    gain = tl.load(state + column, mask=column < channels, other=0.0)
    shift = tl.load(state + channels + column, mask=column < channels, other=0.0)
    mean = tl.load(state + 2 * channels + column // width, mask=column < channels, other=0.0)
    rstd = tl.load(state + 2 * channels + groups + column // width, mask=column < channels, other=0.0)
    along_mean = tl.load(along + column // width, mask=column < channels, other=0.0)
    along_output = tl.load(along + groups + column // width, mask=column < channels, other=0.0) * rstd
    for _ in range(tiles):
        here = (row < left) & (column < channels)
        value = tl.load(x + row * channels + column, mask=here, other=0.0).to(tl.float32)
        slope = tl.load(grad + row * channels + column, mask=here, other=0.0).to(tl.float32)
        if silu:
            hidden = value * gain + shift
            gate = tl.sigmoid(hidden)
            slope *= gate * (1.0 + hidden * (1.0 - gate))
        result = slope * gain - along_mean - (value - mean) * along_output
        tl.store(grad_x + row * channels + column, result.to(grad_x.dtype.element_ty), mask=here)
        x += rows * channels
        grad += rows * channels
        grad_x += rows * channels
        left -= rows
