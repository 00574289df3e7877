"""Winograd's convolutions with stride 2 against PyTorch's direct ones."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.models import winograd, winograd_strided
from tenshot.models.stylegan2 import conv as conv_module
from tenshot.models.stylegan2.layers import EqualConv, StyledConv
from tenshot.models.winograd_strided import (
    strided_winograd_conv,
    strided_winograd_conv_transpose,
    strided_winograd_pays,
    strided_winograd_weight_gradient,
)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("at_a_time", [1, 4, 512], ids="{} tiles at a time".format)
@pytest.mark.parametrize("shape", [(3, 5, 17, 25), (1, 2, 9, 9), (5, 3, 33, 9)], ids=str)
def test_they_are_the_convolution_and_its_gradients(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], at_a_time: int, layout: torch.memory_format
):
    monkeypatch.setattr(winograd, "TILES_AT_A_TIME", at_a_time)
    x, weight, bias = drawn(*shape), drawn(7, shape[1], 3, 3, seed=1), drawn(7, seed=2)
    x, weight = (tensor.contiguous(memory_format=layout).requires_grad_() for tensor in (x, weight))
    expected = F.conv2d(x, weight, bias, stride=2)
    grad = drawn(*expected.shape, seed=3).contiguous(memory_format=layout)
    grad_x, grad_weight = torch.autograd.grad(expected, (x, weight), grad)
    with torch.no_grad():
        torch.testing.assert_close(strided_winograd_conv(x, weight, bias), expected, rtol=0, atol=1e-11)
        torch.testing.assert_close(strided_winograd_conv_transpose(grad, weight), grad_x, rtol=0, atol=1e-11)
        torch.testing.assert_close(strided_winograd_weight_gradient(x, grad), grad_weight, rtol=0, atol=1e-11)
        for found in (strided_winograd_conv(x, weight), strided_winograd_conv_transpose(grad, weight)):
            assert found.is_contiguous(memory_format=torch.channels_last)


def test_rounding_errors_are_a_few_times_those_of_the_direct_convolution():
    x, weight = drawn(1, 256, 33, 33), drawn(256, 256, 3, 3, seed=1) / (9 * 256) ** 0.5
    small = drawn(1, 256, 16, 16, seed=2)

    def error(found: Tensor, exact: Tensor) -> float:
        return (found - exact).abs().max().item() / exact.abs().max().item()

    assert error(strided_winograd_conv(x.float(), weight.float()), F.conv2d(x, weight, stride=2)) < 1e-5
    found = strided_winograd_conv_transpose(small.float(), weight.float())
    assert error(found, F.conv_transpose2d(small, weight, stride=2)) < 1e-5


def test_where_they_pay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    x, weight = torch.empty(4, 512, 33, 33), (512, 512, 3, 3)
    assert strided_winograd_pays(x, weight)
    assert not strided_winograd_pays(x[..., 1:], weight)
    assert not strided_winograd_pays(x[..., 2:], weight)
    assert not strided_winograd_pays(x[:2], weight)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not strided_winograd_pays(x, weight)


@pytest.fixture
def paying(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let them pay everywhere; the calls that were made."""
    calls: list[str] = []
    for pays in ("winograd_pays", "strided_winograd_pays"):
        monkeypatch.setattr(conv_module, pays, lambda x, weight: tuple(weight[2:]) == (3, 3))
    for name in winograd_strided.__all__:
        function = getattr(winograd_strided, name)
        if not name.endswith("pays"):

            def called(*args: Tensor, name: str = name, function: object = function) -> Tensor:
                calls.append(name)
                return function(*args)  # type: ignore[operator, no-any-return]

            monkeypatch.setattr(conv_module, name, called)
    return calls


EVERY = {"strided_winograd_conv", "strided_winograd_conv_transpose", "strided_winograd_weight_gradient"}


def test_derivatives_of_any_order(paying: list[str]):
    x, weight, bias = drawn(1, 2, 9, 9).requires_grad_(), drawn(3, 2, 3, 3).requires_grad_(), drawn(3).requires_grad_()
    small = drawn(1, 3, 4, 4).requires_grad_()
    down, up = partial(conv_module.conv2d, stride=2), partial(conv_module.conv_transpose2d, stride=2)
    for convolution, inputs in ((down, (x, weight, bias)), (up, (small, weight))):
        paying.clear()
        assert torch.autograd.gradcheck(convolution, inputs)
        assert torch.autograd.gradgradcheck(convolution, inputs)
        assert set(paying) == EVERY


def test_pictures_that_are_drawn_to_be_kept_are_exact(paying: list[str]):
    down, up = EqualConv(2, 3, 3, down=True).double(), StyledConv(3, 2, 4, 16, up=True).double()
    x, small, style = drawn(1, 2, 16, 16), drawn(1, 3, 8, 8), drawn(1, 4)
    with torch.no_grad():
        trained = down(x), up(small, style, None, torch.float64)
        assert set(paying) == EVERY - {"strided_winograd_weight_gradient"}
        paying.clear()
        down.eval(), up.eval()
        exact = down(x), up(small, style, None, torch.float64)
    assert not paying
    torch.testing.assert_close(trained, exact, rtol=0, atol=1e-12)
