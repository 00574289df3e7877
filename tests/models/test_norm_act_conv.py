"""The joint node against separate operations, and the memory it is there to save."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.models.norm_act_conv import norm_act, norm_act_conv


def normalised(x: Tensor, norm: nn.GroupNorm, modulation: Tensor | None) -> Tensor:
    """The library's norm, then the modulation."""
    h = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    if modulation is not None:
        scale, shift = modulation.chunk(2, dim=1)
        h = h * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    return h


def separate(x: Tensor, norm: nn.GroupNorm, conv: nn.Conv2d, modulation: Tensor | None) -> Tensor:
    """What the node computes, one operation after the other."""
    h = normalised(x, norm, modulation)
    return F.conv2d(F.silu(h), conv.weight, conv.bias, padding=conv.padding)


def layers(channels: int = 4, out: int = 3, kernel: int = 3, groups: int = 2) -> tuple[nn.GroupNorm, nn.Conv2d]:
    torch.manual_seed(0)
    norm, conv = nn.GroupNorm(groups, channels), nn.Conv2d(channels, out, kernel, padding=kernel // 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm, conv


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
def test_values_and_gradients_equal_those_of_separate_operations(kernel, modulated):
    norm, conv = layers(kernel=kernel)
    norm, conv = norm.double(), conv.double()
    x = (3 + 2 * torch.randn(2, 4, 5, 6, dtype=torch.float64)).requires_grad_()
    modulation = torch.randn(2, 8, dtype=torch.float64, requires_grad=True) if modulated else None
    inputs = [x, *norm.parameters(), *conv.parameters(), *([modulation] if modulated else [])]
    ours, theirs = norm_act_conv(x, norm, conv, modulation), separate(x, norm, conv, modulation)
    towards = torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs)
    for mine, reference in zip(
        torch.autograd.grad(ours, inputs, towards), torch.autograd.grad(theirs, inputs, towards), strict=True
    ):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("modulated", [False, True])
def test_gradients_equal_finite_differences(modulated):
    norm, conv = (layer.double() for layer in layers())
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    modulation = torch.randn(2, 8, dtype=torch.float64, requires_grad=True) if modulated else None
    # the layers' own parameters are changed in place by gradcheck, so the function reads the new values
    parameters = [*norm.parameters(), *conv.parameters()]
    assert torch.autograd.gradcheck(
        lambda *_: norm_act_conv(x, norm, conv, modulation), [x, *parameters, *([modulation] if modulated else [])]
    )


def test_frozen_layers_get_no_gradient_and_pass_one_on():
    norm, conv = layers()
    norm.requires_grad_(False)
    conv.requires_grad_(False)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    norm_act_conv(x, norm, conv).sum().backward()
    expected = torch.autograd.grad(separate(x, norm, conv, None).sum(), x)[0]
    torch.testing.assert_close(x.grad, expected, atol=1e-5, rtol=1e-4)
    assert conv.weight.grad is None
    assert norm.weight.grad is None


def test_input_that_needs_no_gradient_still_trains_the_layers():
    norm, conv = layers()
    x = torch.randn(2, 4, 5, 5)
    norm_act_conv(x, norm, conv).square().sum().backward()
    found = norm.weight.grad
    norm.weight.grad = None
    separate(x, norm, conv, None).square().sum().backward()
    torch.testing.assert_close(found, norm.weight.grad)


@pytest.mark.parametrize("modulated", [False, True])
def test_inference_equals_training_and_leaves_its_input_alone(modulated):
    norm, conv = layers()
    x = torch.randn(2, 4, 5, 5)
    modulation = torch.randn(2, 8) if modulated else None
    before = x.clone()
    with torch.no_grad():
        inferred = norm_act_conv(x, norm, conv, modulation)
    torch.testing.assert_close(inferred, norm_act_conv(x, norm, conv, modulation))
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad", [False, True])
def test_autocast_keeps_the_stream_in_bfloat16(dtype, grad):
    norm, conv = layers(channels=8, out=8)
    x = torch.randn(2, 8, 4, 4)
    modulation = 0.1 * torch.randn(2, 16)
    expected = separate(x, norm, conv, modulation)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
        activated = norm_act(x.bfloat16(), norm, modulation)
        out = norm_act_conv(x.to(dtype), norm, conv, modulation)
    assert activated.dtype == torch.bfloat16
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.05)


def test_autocast_gradients_have_the_dtype_of_what_they_belong_to():
    norm, conv = layers(channels=8, out=8)
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    modulation = torch.zeros(2, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        norm_act_conv(x, norm, conv, modulation).sum().backward()
    for tensor in (x, modulation, *norm.parameters(), *conv.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.dtype == torch.float32


def test_channels_last_stays_channels_last():
    norm, conv = layers(channels=8, out=8)
    conv.to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    modulation = torch.zeros(2, 16)
    for out in (norm_act(x, norm, modulation), norm_act_conv(x, norm, conv, modulation)):
        assert out.is_contiguous(memory_format=torch.channels_last)
        (grad,) = torch.autograd.grad(out.square().sum(), x)
        assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("modulated", [False, True])
def test_keeps_half_as_much_for_the_backward_pass(modulated):
    norm, conv = layers(channels=8, out=8)
    x = torch.randn(2, 8, 32, 32, requires_grad=True)
    modulation = torch.randn(2, 16, requires_grad=True) if modulated else None
    parameters = {p.data_ptr() for p in (*norm.parameters(), *conv.parameters())}

    def kept(function) -> int:
        storages = {}

        def note(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in parameters:
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            alive = function(x, norm, conv, modulation)  # its graph holds what is saved
        del alive
        return sum(storages.values())

    one_map = x.nbytes
    assert kept(norm_act_conv) < 1.1 * one_map
    assert kept(separate) > (3.9 if modulated else 2.9) * one_map


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("modulated", [False, True])
def test_without_a_convolution_values_and_gradients_equal_those_of_separate_operations(modulated, silu):
    norm = layers()[0].double()
    x = (3 + 2 * torch.randn(2, 4, 5, 6, dtype=torch.float64)).requires_grad_()
    modulation = torch.randn(2, 8, dtype=torch.float64, requires_grad=True) if modulated else None
    inputs = [x, *norm.parameters(), *([modulation] if modulated else [])]
    ours, theirs = norm_act(x, norm, modulation, silu), normalised(x, norm, modulation)
    theirs = F.silu(theirs) if silu else theirs
    towards = torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs)
    for mine, reference in zip(
        torch.autograd.grad(ours, inputs, towards), torch.autograd.grad(theirs, inputs, towards), strict=True
    ):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("mean", [0.0, 3.0, 30.0])
@pytest.mark.parametrize(("dtype", "at_most"), [(torch.float64, 1e-13), (torch.float32, 2e-5), (torch.bfloat16, 8e-3)])
def test_loses_no_digits_where_the_mean_is_large(dtype, at_most, mean):
    """Against float64; in float32 a mean of squares less a square of the mean is off by 8e-5 at 30."""
    torch.manual_seed(0)
    norm = nn.GroupNorm(32, 256).to(torch.float64 if dtype == torch.float64 else torch.float32)
    x = (mean + 1.7 * torch.randn(2, 256, 64, 64, dtype=torch.float64)).to(dtype)
    x = x.to(memory_format=torch.channels_last)
    modulation = torch.randn(2, 512, dtype=norm.weight.dtype)
    expected = normalised(x.double() - mean, norm.double(), modulation.double())  # the same, and more exact
    norm.to(modulation.dtype)
    found = norm_act(x, norm, modulation, activation=False)
    assert found.dtype == dtype
    assert (found - expected).abs().max() < at_most * expected.abs().max()
