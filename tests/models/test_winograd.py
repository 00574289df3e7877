"""Winograd's convolution against PyTorch's direct one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.models import norm_act_conv as norm_act_conv_module
from tenshot.models import winograd
from tenshot.models.stylegan2 import conv as conv_module
from tenshot.models.stylegan2.layers import EqualConv, StyledConv
from tenshot.models.winograd import winograd_conv, winograd_pays, winograd_weight_gradient


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("at_a_time", [1, 4, 7, 512], ids="{} tiles at a time".format)
@pytest.mark.parametrize("shape", [(3, 5, 8, 12), (1, 2, 4, 4), (5, 3, 16, 4)], ids=str)
def test_it_is_the_convolution_and_its_gradients(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], at_a_time: int
):
    monkeypatch.setattr(winograd, "TILES_AT_A_TIME", at_a_time)
    x, weight, bias = (
        drawn(*shape).requires_grad_(),
        drawn(7, shape[1], 3, 3, seed=1).requires_grad_(),
        drawn(7, seed=2),
    )
    expected = F.conv2d(x, weight, bias, padding=1)
    grad = drawn(*expected.shape, seed=3)
    grad_x, grad_weight = torch.autograd.grad(expected, (x, weight), grad)
    with torch.no_grad():
        torch.testing.assert_close(winograd_conv(x, weight, bias), expected, rtol=0, atol=1e-11)
        torch.testing.assert_close(winograd_conv(grad, weight, transposed=True), grad_x, rtol=0, atol=1e-11)
        torch.testing.assert_close(winograd_weight_gradient(x, grad), grad_weight, rtol=0, atol=1e-11)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_memory_layout_makes_no_difference(layout: torch.memory_format):
    x, weight = drawn(2, 4, 8, 8), drawn(3, 4, 3, 3, seed=1)
    moved = x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)
    found = winograd_conv(*moved)
    assert torch.equal(found, winograd_conv(x, weight))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_rounding_errors_are_a_few_times_those_of_the_direct_convolution():
    x, weight = drawn(1, 256, 16, 16), drawn(256, 256, 3, 3, seed=1) / (9 * 256) ** 0.5
    exact = F.conv2d(x, weight, padding=1)

    def error(found: Tensor) -> float:
        return (found - exact).abs().max().item() / exact.abs().max().item()

    assert error(winograd_conv(x.float(), weight.float())) < 3e-5


def test_where_it_pays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    x, weight = torch.empty(4, 512, 16, 16), (512, 512, 3, 3)
    assert winograd_pays(x, weight)
    assert not winograd_pays(x.double(), weight)
    assert not winograd_pays(x[..., 1:], weight)
    assert not winograd_pays(x[:2], weight)
    assert not winograd_pays(x, (512, 512, 1, 1))
    assert not winograd_pays(x.new_empty(64, 3, 64, 64), (512, 3, 3, 3))
    assert not winograd_pays(x.to("meta"), weight)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not winograd_pays(x, weight)


@pytest.fixture
def paying(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let it pay everywhere; the calls that were made."""
    calls: list[str] = []
    for module in (conv_module, norm_act_conv_module):
        monkeypatch.setattr(module, "winograd_pays", lambda x, weight: tuple(weight[2:]) == (3, 3))
        for name in ("winograd_conv", "winograd_weight_gradient"):
            function = getattr(winograd, name)

            def called(*args: object, name: str = name, function: object = function, **kwargs: object) -> Tensor:
                calls.append(name)
                return function(*args, **kwargs)  # type: ignore[operator, no-any-return]

            monkeypatch.setattr(module, name, called)
    return calls


def test_stylegan2s_convolution_has_derivatives_of_any_order_by_it(paying: list[str]):
    x, weight, bias = drawn(2, 2, 4, 4).requires_grad_(), drawn(3, 2, 3, 3).requires_grad_(), drawn(3).requires_grad_()

    def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return conv_module.conv2d(x, weight, bias, padding=1)

    assert torch.autograd.gradcheck(convolution, (x, weight, bias))
    assert torch.autograd.gradgradcheck(convolution, (x, weight, bias))
    assert set(paying) == {"winograd_conv", "winograd_weight_gradient"}


def test_pictures_that_are_drawn_to_be_kept_are_exact(paying: list[str]):
    conv, plain = EqualConv(2, 3, 3).double(), StyledConv(2, 3, 4, 4, up=False).double()
    x, style = drawn(1, 2, 4, 4), drawn(1, 4)
    with torch.no_grad():
        trained = conv(x), plain(x, style, None, torch.float64)
        assert paying == ["winograd_conv"] * 2
        conv.eval(), plain.eval()
        exact = conv(x), plain(x, style, None, torch.float64)
    assert paying == ["winograd_conv"] * 2
    torch.testing.assert_close(trained, exact, rtol=0, atol=1e-12)


def test_the_block_of_the_diffusion_network_by_it(paying: list[str]):
    norm, conv = torch.nn.GroupNorm(2, 4).double(), torch.nn.Conv2d(4, 3, 3, padding=1).double()
    x = drawn(2, 4, 8, 8).requires_grad_()
    weights = x, norm.weight, norm.bias, conv.weight, conv.bias
    found = norm_act_conv_module.norm_act_conv(x, norm, conv)
    expected = conv(F.silu(norm(x)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    grad = drawn(*expected.shape, seed=3)
    for ours, theirs in zip(
        torch.autograd.grad(found, weights, grad), torch.autograd.grad(expected, weights, grad), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
    assert paying == ["winograd_conv", "winograd_conv", "winograd_weight_gradient"]
