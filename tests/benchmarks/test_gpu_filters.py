"""The ways to filter that are measured against each other compute the same, with the same gradients."""

import pytest
import torch

from benchmarks.gpu.filters import filters
from tenshot.models.stylegan2 import fir
from tenshot.models.stylegan2.fir import Resample

CASES = [((2, 1), 1, 1, None), ((2, 1), 2, 1, None), ((1, 1), 1, 2, None), ((1, 1), 1, 1, 4.0)]


@pytest.mark.parametrize("way", filters())
@pytest.mark.parametrize(("padding", "up", "down", "gain"), CASES)
def test_equal_values_and_second_derivatives(
    way: str, padding: tuple[int, int], up: int, down: int, gain: float | None
):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 6, generator=generator, dtype=torch.float64).requires_grad_()
    layer = Resample(padding, up, down, gain).double()

    def found() -> tuple[torch.Tensor, ...]:
        y = layer(x)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
        return y, first, second

    expected, plain = found(), fir.fir_resample
    with filters()[way]():
        assert fir.fir_resample is not plain
        got = found()
    assert fir.fir_resample is plain
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
