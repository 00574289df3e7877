"""The weight gradient by matrix products against the library's, and where it is chosen."""

import pytest
import torch
import torch.nn.functional as F

from tenshot.models.weight_gradient import products_pay, weight_gradient


@pytest.mark.parametrize(("n", "c", "out", "height", "width"), [(2, 3, 5, 4, 6), (1, 1, 1, 1, 1), (3, 2, 4, 7, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_the_gradient_of_the_convolution(n, c, out, height, width, memory_format):
    x = torch.randn(n, c, height, width, dtype=torch.float64).to(memory_format=memory_format)
    grad = torch.randn(n, out, height, width, dtype=torch.float64).to(memory_format=memory_format)
    weight = torch.randn(out, c, 3, 3, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(F.conv2d(x, weight, padding=1), weight, grad)
    found = weight_gradient(x, grad)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)  # as the weights are: it becomes .grad uncopied


def test_takes_a_slice_of_channels_as_concatenation_hands_back():
    x, both = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 8, 4, 4, dtype=torch.float64)
    grad = both.to(memory_format=torch.channels_last)[:, 3:]
    torch.testing.assert_close(weight_gradient(x, grad), weight_gradient(x, grad.contiguous()))


@pytest.mark.parametrize(
    ("capability", "dtype", "side", "pays"),
    [
        ("AVX2", torch.float32, 16, True),
        ("AVX2", torch.float32, 8, False),
        ("AVX2", torch.bfloat16, 16, False),
        ("AVX512", torch.float32, 16, False),
    ],
)
def test_is_chosen_where_it_pays(monkeypatch, capability, dtype, side, pays):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert products_pay(torch.zeros(1, 1, side, side, dtype=dtype)) is pays
    assert not products_pay(torch.zeros(1, 1, side, side, device="meta"))
