"""Layers of StyleGAN2 against the per-sample weights of the paper, derivatives against finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from tenshot.models.stylegan2.conv import conv2d, conv_transpose2d
from tenshot.models.stylegan2.fir import fir_resample
from tenshot.models.stylegan2.layers import EqualConv, EqualLinear, StyledConv, ToRGB

DOUBLE = torch.float64
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=DOUBLE) / 8


def randomised(module):
    for parameter in module.parameters():
        parameter.data = torch.randn_like(parameter)
    return module


def double(*shape, grad=True):
    return torch.randn(shape, dtype=DOUBLE, requires_grad=grad)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_and_all_their_derivatives(stride, transposed):
    x, weight, bias = double(2, 2, 5, 5), double(3, 2, 3, 3), double(3)
    padding = 2 - stride
    if transposed:
        weight = double(2, 3, 3, 3)
        torch.testing.assert_close(
            conv_transpose2d(x, weight, stride, padding), F.conv_transpose2d(x, weight, None, stride, padding)
        )
        assert gradcheck(lambda x, w: conv_transpose2d(x, w, stride, padding), (x, weight), fast_mode=True)
        assert gradgradcheck(lambda x, w: conv_transpose2d(x, w, stride, padding), (x, weight), fast_mode=True)
    else:
        torch.testing.assert_close(conv2d(x, weight, bias, stride, padding), F.conv2d(x, weight, bias, stride, padding))
        assert gradcheck(lambda *a: conv2d(*a, stride, padding), (x, weight, bias), fast_mode=True)
        assert gradgradcheck(lambda *a: conv2d(*a, stride, padding), (x, weight, bias), fast_mode=True)


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (1, 0), (2, 0)])
def test_weight_gradients_in_channels_last(stride, padding):
    x = torch.randn(2, 8, 21, 17).to(memory_format=torch.channels_last)
    ours, theirs = (torch.ones(5, 8, 3, 3, requires_grad=True) for _ in range(2))
    expected = F.conv2d(x, theirs, None, stride, padding)
    g = torch.randn_like(expected)
    conv2d(x, ours, None, stride, padding).backward(g)
    expected.backward(g)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def per_sample_weights(layer, x, style, noise):
    """Modulate and demodulate one weight for each sample, convolve one sample at a time."""
    out = []
    for sample, vector, noise_map in zip(x, style, noise, strict=True):
        modulation = layer.style.weight @ vector / math.sqrt(len(vector)) + layer.style.bias
        weight = layer.weight / math.sqrt(layer.weight[0].numel()) * modulation[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if layer.filter is None:
            y = F.conv2d(sample[None], weight, padding=1)
        else:
            y = F.conv_transpose2d(sample[None], weight.transpose(0, 1), stride=2)
            y = fir_resample(y, TAPS, padding=(1, 1), gain=4.0)
        y = y + layer.noise_strength * noise_map + layer.bias[:, None, None]
        out.append(F.leaky_relu(y, 0.2) * math.sqrt(2))
    return torch.cat(out)


@pytest.mark.parametrize("up", [False, True])
def test_styled_convolution_equals_one_weight_for_each_sample(up):
    layer = randomised(StyledConv(4, 5, 3, 6, up).double())
    side = 3 if up else 6
    x, style, noise = double(3, 4, side, side), double(3, 3), double(3, 1, 6, 6, grad=False)
    ours = layer(x, style, noise, DOUBLE)
    theirs = per_sample_weights(layer, x, style, noise)
    torch.testing.assert_close(ours, theirs)
    wanted = [x, style, *layer.parameters()]
    g = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad(ours, wanted, g), torch.autograd.grad(theirs, wanted, g), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("noisy", [False, True])
def test_derivatives_of_the_styled_convolution(up, noisy):
    layer = randomised(StyledConv(2, 2, 2, 4, up).double())
    side = 2 if up else 4
    noise = double(2, 1, 4, 4, grad=False) if noisy else None
    names, values = zip(*((n, p.detach().requires_grad_()) for n, p in layer.named_parameters()), strict=True)
    if not noisy:
        keep = [i for i, name in enumerate(names) if name != "noise_strength"]
        names, values = [names[i] for i in keep], [values[i] for i in keep]

    def run(x, style, *weights):
        weights = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, weights, (x, style, noise, DOUBLE))

    inputs = (double(2, 2, side, side), double(2, 2), *values)
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs, fast_mode=True)


def test_to_rgb_is_modulated_but_not_demodulated():
    layer = randomised(ToRGB(4, 3).double())
    x, style = double(2, 4, 5, 5), double(2, 3)
    modulation = style @ layer.style.weight.t() / math.sqrt(3) + layer.style.bias
    theirs = torch.einsum("oi,ni,nihw->nohw", layer.weight[:, :, 0, 0] / 2, modulation, x) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, style), theirs)
    assert gradgradcheck(lambda x, style: layer(x, style), (double(1, 4, 2, 2), double(1, 3)))


@pytest.mark.parametrize(("kernel", "pad"), [(3, 2), (1, 1)])
def test_downsampling_filters_then_convolves_with_a_stride(kernel, pad):
    layer = randomised(EqualConv(3, 4, kernel, down=True, activation=kernel == 3).double())
    x = double(2, 3, 8, 8)
    theirs = fir_resample(x, TAPS, padding=(pad, pad))
    theirs = F.conv2d(theirs, layer.weight / math.sqrt(3 * kernel**2), layer.bias, stride=2)
    theirs = F.leaky_relu(theirs, 0.2) * math.sqrt(2) if kernel == 3 else theirs
    torch.testing.assert_close(layer(x), theirs)
    torch.testing.assert_close(layer(x, 0.3), 0.3 * theirs)
    assert layer(x).shape == (2, 4, 4, 4)


def test_learning_rate_multiplier_scales_weight_and_bias_but_not_the_first_output():
    layer = EqualLinear(64, 512, lr_mul=0.01)
    assert 90 < layer.weight.std() < 110
    x = torch.randn(16, 64)
    assert 0.9 < layer(x).std() < 1.1
    layer.bias.data += 1
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight * 0.01 / 8) + 0.01)


def test_float16_is_bounded_and_does_not_overflow():
    """Unnormalised, weight and style of this size pass float16's largest number."""
    layer = randomised(StyledConv(8, 8, 4, 8, up=False))
    style = torch.randn(2, 4)
    x = 200 * torch.randn(2, 8, 8, 8)
    layer.weight.data *= 3000
    layer.style.weight.data *= 3000
    full = layer(x, style, None, torch.float32)
    half = layer(x, style, None, torch.float16)
    assert half.dtype == torch.float16
    assert full.abs().max() > 300
    assert half.abs().max() == 256
    torch.testing.assert_close(half.float(), full.clamp(-256, 256), rtol=2e-2, atol=1.5)

    conv = randomised(EqualConv(8, 8, 3))
    assert conv(x).abs().max() > 300
    assert conv(x.half(), 0.5).abs().max() == 128
    rgb = randomised(ToRGB(8, 4))
    assert rgb(x, style).abs().max() > 300
    assert rgb(x.half(), style).abs().max() == 256
