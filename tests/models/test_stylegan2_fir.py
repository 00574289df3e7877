"""FIR resampling against loops over zeros, and its derivatives against finite differences."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tenshot.models.stylegan2 import fir
from tenshot.models.stylegan2.fir import Resample, depthwise, fir_resample, nchw, pooled, separable

ASYMMETRIC = torch.tensor([0.7, -1.3, 0.4, 2.1, 0.2], dtype=torch.float64)
CASES = {
    "blur": (1, 1, (2, 1)),
    "blur of equal margins": (1, 1, (1, 1)),
    "up": (2, 1, (2, 1)),
    "up, wide margins": (2, 1, (6, 3)),
    "up, cropped": (2, 1, (-1, 4)),
    "down": (1, 2, (1, 1)),
    "down, cropped": (1, 2, (-1, 2)),
    "by two thirds": (2, 3, (3, 2)),
    "up by three": (3, 1, (3, 2)),
}


def by_loops(row: Tensor, taps: Tensor, up: int, down: int, padding: tuple[int, int]) -> Tensor:
    """One axis: y[i] = sum_m taps[m] * padded[i * down + K - 1 - m]."""
    padded = {padding[0] + up * place: value for place, value in enumerate(row)}
    length = up * len(row) + sum(padding)
    out = []
    for start in range(0, length - len(taps) + 1, down):
        places = [start + len(taps) - 1 - m for m in range(len(taps))]
        out.append(sum(t * padded.get(p, 0.0) for t, p in zip(taps, places, strict=True) if 0 <= p < length))
    return torch.stack([torch.as_tensor(value, dtype=row.dtype) for value in out])


def expected(x: Tensor, *arguments) -> Tensor:
    lines = torch.stack([by_loops(row, *arguments) for row in x.reshape(-1, x.shape[-1])])
    lines = lines.view(*x.shape[:-1], -1).transpose(-1, -2)
    columns = torch.stack([by_loops(row, *arguments) for row in lines.reshape(-1, lines.shape[-1])])
    return columns.view(*lines.shape[:-1], -1).transpose(-1, -2)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_inserting_zeros_filtering_and_decimating(case, memory_format):
    up, down, padding = CASES[case]
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64).contiguous(memory_format=memory_format)
    ours = fir_resample(x, ASYMMETRIC, up, down, padding, gain=1.5)
    torch.testing.assert_close(ours, 1.5 * expected(x, ASYMMETRIC, up, down, padding))
    assert ours.shape[2:] == tuple((size * up + sum(padding) - 5) // down + 1 for size in (7, 6))


BINOMIAL = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
BY_TWO = [case for case, (up, down, _) in CASES.items() if max(up, down) <= 2]


@pytest.mark.parametrize("way", [nchw, separable, pooled])
@pytest.mark.parametrize("case", BY_TWO)
@pytest.mark.parametrize("gain", [1.0, 4.0, 1.5])
def test_all_ways_to_filter_are_equal_and_so_are_their_derivatives(monkeypatch, way, case, gain):
    up, down, padding = CASES[case]
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()

    def computed(with_way) -> list[Tensor]:
        monkeypatch.setattr(fir, "filtered", with_way)
        y = fir_resample(x, BINOMIAL, up, down, padding, gain)
        (first,) = torch.autograd.grad(y.tanh().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        return [y, first, second]

    ours = computed(way)
    torch.testing.assert_close(ours[0], gain * expected(x, BINOMIAL, up, down, padding))
    for mine, theirs in zip(ours, computed(depthwise), strict=True):
        torch.testing.assert_close(mine, theirs)
        assert mine.is_contiguous(memory_format=torch.channels_last)


def test_asymmetric_taps_along_each_axis(monkeypatch):
    monkeypatch.setattr(fir, "filtered", separable)
    for up, down, padding in CASES.values():
        x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
        found = fir_resample(x, ASYMMETRIC, up, down, padding, gain=1.5)
        torch.testing.assert_close(found, 1.5 * expected(x, ASYMMETRIC, up, down, padding))


@pytest.mark.parametrize("case", CASES)
def test_first_and_second_derivatives(case):
    up, down, padding = CASES[case]
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)

    def resample(x):
        return fir_resample(x, ASYMMETRIC, up, down, padding)

    assert gradcheck(resample, x)
    assert gradgradcheck(lambda x: resample(x).tanh(), x, fast_mode=True)


def test_the_derivative_is_the_adjoint():
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    y = fir_resample(x, ASYMMETRIC, 1, 2, (2, 1))
    g = torch.randn_like(y)
    (adjoint,) = torch.autograd.grad(y, x, g)
    other = torch.randn_like(x)
    torch.testing.assert_close((adjoint * other).sum(), (g * fir_resample(other, ASYMMETRIC, 1, 2, (2, 1))).sum())


@pytest.mark.parametrize(("up", "down"), [(2, 1), (1, 2), (1, 1)])
def test_the_filter_keeps_a_constant_away_from_the_border(up, down):
    y = Resample((2, 2), up=up, down=down)(torch.full((1, 1, 16, 16), 0.5))
    torch.testing.assert_close(y[..., 4:-4, 4:-4], torch.full_like(y[..., 4:-4, 4:-4], 0.5))


def test_the_second_derivative_needs_no_more_operators_than_the_first():
    """PyTorch's own goes channel by channel."""

    def operators(channels: int) -> int:
        x = torch.randn(1, channels, 8, 8, requires_grad=True)
        taps = torch.ones(4)
        with torch.profiler.profile() as profile:
            (grad,) = torch.autograd.grad(fir_resample(x, taps, down=2).square().sum(), x, create_graph=True)
            grad.square().sum().backward()
        return sum(event.count for event in profile.key_averages())

    assert operators(32) == operators(4)
