"""The parts of U-Nets: attention in both channel orders, the mean of pixels, doubling."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from tenshot.models.blocks import Attention, _Mean2, attend, up2


def naive_attention(qkv: Tensor, heads: int, order: str) -> Tensor:
    """Head by head, with the layouts written out; qkv: (N, L, 3C) -> (N, L, C)."""
    width = qkv.shape[2] // 3
    depth = width // heads
    out = []
    for head in range(heads):
        if order == "legacy":
            starts = [head * 3 * depth + part * depth for part in range(3)]
        else:
            starts = [part * width + head * depth for part in range(3)]
        q, k, v = (qkv[:, :, start : start + depth] for start in starts)
        weights = torch.einsum("nqd,nkd->nqk", q, k).div(math.sqrt(depth)).softmax(dim=2)
        out.append(torch.einsum("nqk,nkd->nqd", weights, v))
    return torch.cat(out, dim=2)


@pytest.mark.parametrize("order", ["legacy", "new"])
@pytest.mark.parametrize("heads", [1, 3])
def test_attention_equals_a_naive_one_in_both_channel_orders(heads, order):
    qkv = torch.randn(2, 10, 3 * 24, dtype=torch.float64)
    torch.testing.assert_close(attend(qkv, heads, order), naive_attention(qkv, heads, order))


def test_attention_layer_equals_the_formula_on_pixels():
    layer = Attention(64, num_heads=2, order="new").double()
    nn.init.normal_(layer.proj.weight)
    nn.init.normal_(layer.norm.weight)
    x = torch.randn(2, 64, 3, 5, dtype=torch.float64)
    normalized = nn.functional.group_norm(x, 32, layer.norm.weight, layer.norm.bias, 1e-5)
    pixels = normalized.flatten(2).transpose(1, 2)  # (N, L, C)
    qkv = pixels @ layer.qkv.weight[:, :, 0, 0].T + layer.qkv.bias
    mixed = naive_attention(qkv, 2, "new") @ layer.proj.weight[:, :, 0, 0].T + layer.proj.bias
    torch.testing.assert_close(layer(x), x + mixed.transpose(1, 2).reshape(x.shape))


def test_orders_differ_in_what_they_compute():
    qkv = torch.randn(1, 4, 3 * 8)
    assert not torch.allclose(attend(qkv, 2, "legacy"), attend(qkv, 2, "new"))
    assert torch.equal(attend(qkv, 1, "legacy"), attend(qkv, 1, "new"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mean_of_pixels_on_gpus_has_the_bits_of_the_librarys(dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 4, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    towards = torch.randn(2, 3, 3, 2, dtype=dtype).contiguous(memory_format=torch.channels_last)
    found, expected = ((y, *torch.autograd.grad(y, x, towards)) for y in (_Mean2.apply(x), F.avg_pool2d(x, 2)))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()


def test_mean_of_pixels_on_gpus_can_be_differentiated_twice():
    x = torch.randn(1, 2, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Mean2.apply, x)
    assert torch.autograd.gradgradcheck(_Mean2.apply, x)


def test_doubling_keeps_the_dtype_under_cuda_autocast():
    """It takes float32 for ``interpolate`` there, and then all that follows; fake tensors need no GPU to tell."""
    torch.set_autocast_enabled("cuda", True)  # torch.autocast would first ask for a GPU
    try:
        with FakeTensorMode():
            x = torch.empty(1, 4, 2, 2, device="cuda", dtype=torch.bfloat16).to(memory_format=torch.channels_last)
            doubled = up2(x)
    finally:
        torch.set_autocast_enabled("cuda", False)
    assert (doubled.dtype, doubled.shape) == (torch.bfloat16, (1, 4, 4, 4))
    assert doubled.is_contiguous(memory_format=torch.channels_last)
