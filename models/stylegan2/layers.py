"""Layers of StyleGAN2: equalised learning rate, modulated convolution, the dtype of each resolution.

Weights are stored with unit variance and scaled when used (equalised learning rate), as in the published checkpoints.
Feature maps are (N, C, H, W) in channels_last memory.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.models.stylegan2.config import StyleGAN2Config
from tenshot.models.stylegan2.conv import conv2d, conv_transpose2d
from tenshot.models.stylegan2.fir import Resample

__all__ = ["FP16_LIMIT", "EqualConv", "EqualLinear", "StyledConv", "ToRGB", "bounded", "dtypes"]

FP16_LIMIT = 256.0
_SLOPE = 0.2
_EPSILON = 1e-8


def dtypes(config: StyleGAN2Config, parameter: Tensor) -> dict[int, torch.dtype]:
    """The dtype each resolution computes in: the parameters', or under autocast its dtype at the highest ones.

    4 px is never reduced (section "mixed precision" of arXiv 2006.06676's code).
    """
    chosen = dict.fromkeys(config.resolutions, parameter.dtype)
    device = parameter.device.type
    if torch.is_autocast_enabled(device):
        for resolution in config.resolutions[1:][::-1][: config.reduced_resolutions]:
            chosen[resolution] = torch.get_autocast_dtype(device)
    return chosen


def bounded(x: Tensor, gain: float = 1.0) -> Tensor:
    """In float16, x within ±256 times the gain; otherwise x. (N, C, H, W) -> (N, C, H, W)."""
    return x.clamp(-FP16_LIMIT * gain, FP16_LIMIT * gain) if x.dtype == torch.float16 else x


class EqualLinear(nn.Module):
    """Linear layer with an equalised learning rate, optionally followed by a leaky ReLU with gain sqrt(2).

    Args:
        features: Length of the input.
        out_features: Length of the output.
        bias: Initial, stored bias.
        lr_mul: Multiplies weight and bias; the stored weight is divided by it.
        activation: Whether the leaky ReLU follows.
    """

    def __init__(
        self, features: int, out_features: int, bias: float = 0.0, lr_mul: float = 1.0, activation: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, features) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), bias))
        self.activation = activation
        self.gain = math.sqrt(2) if activation else 1.0  # inside the activation, which is homogeneous
        self.lr_mul = lr_mul
        self.scale = lr_mul / math.sqrt(features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, out_features)."""
        x = F.linear(x, self.weight * (self.scale * self.gain), self.bias * (self.lr_mul * self.gain))
        return F.leaky_relu(x, _SLOPE) if self.activation else x


class EqualConv(nn.Module):
    """Convolution with an equalised learning rate; with ``activation`` a bias and a leaky ReLU with gain sqrt(2).

    Args:
        channels: Channels in.
        out_channels: Channels out.
        kernel: Side of the kernel.
        down: Halve the resolution, after StyleGAN2's filter.
        activation: Whether bias and leaky ReLU follow.
    """

    def __init__(
        self, channels: int, out_channels: int, kernel: int, down: bool = False, activation: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if activation else None
        self.scale = 1 / math.sqrt(channels * kernel**2)
        self.down = down
        # A pointwise convolution commutes with decimation, which then saves it three quarters of its pixels.
        self.pointwise = kernel == 1
        pad = (kernel + 1) // 2
        self.filter = Resample((pad, pad), down=2 if self.pointwise else 1) if down else None

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H', W'), multiplied by the gain."""
        stride, padding = 1, self.weight.shape[-1] // 2
        if self.filter is not None:
            x, stride, padding = self.filter(x), 1 if self.pointwise else 2, 0
        inner = gain if self.bias is None else gain * math.sqrt(2)
        weight = (self.weight * (self.scale * inner)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * inner).to(x.dtype)
        x = conv2d(x, weight, bias, stride, padding)
        return bounded(x if self.bias is None else F.leaky_relu_(x, _SLOPE), gain)


class StyledConv(nn.Module):
    """Modulated 3x3 convolution with noise, bias and leaky ReLU (arXiv 1912.04958, section 2.2).

    The style scales the input's channels and the demodulation the output's, which equals scaling the weight of each
    sample and needs no weight for each sample.

    Args:
        channels: Channels in.
        out_channels: Channels out.
        latent_dim: Length of a style vector.
        resolution: Of the output.
        up: Double the resolution, before StyleGAN2's filter.
    """

    noise: Tensor

    def __init__(self, channels: int, out_channels: int, latent_dim: int, resolution: int, up: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.style = EqualLinear(latent_dim, channels, bias=1.0)
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))
        self.scale = 1 / math.sqrt(channels * 9)
        self.filter = Resample((1, 1), gain=4.0) if up else None

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Feature map of the next layer.

        Args:
            x: (N, C, H, W).
            style: (N, D), not in reduced precision.
            noise: (N or 1, 1, H', W') added with the learned strength, or None.
            dtype: To compute in; in float16 the result lies within ±256.

        Returns:
            (N, out_channels, H', W') after noise, bias and activation.
        """
        weight: Tensor = self.weight
        style = self.style(style)
        if dtype == torch.float16:  # demodulation cancels it, but the convolution might overflow
            weight = weight / weight.abs().amax((1, 2, 3), keepdim=True)
            style = style / style.abs().amax(1, keepdim=True)
        style = style * self.scale  # (N, C)
        energy = weight.square().sum((2, 3))  # (out_channels, C)
        demodulation = (style.square() @ energy.t() + _EPSILON).rsqrt() * math.sqrt(2)  # with the activation's gain
        x = x.to(dtype) * style.to(dtype)[:, :, None, None]
        weight = weight.to(dtype)
        if self.filter is None:
            x = conv2d(x, weight, padding=1)
        else:
            x = self.filter(conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        offset = (self.bias * math.sqrt(2)).to(dtype)[:, None, None]
        demodulation = demodulation.to(dtype)[:, :, None, None]
        if noise is None:
            x = torch.addcmul(offset, x, demodulation)
        else:
            noise = (noise * (self.noise_strength * math.sqrt(2))).to(dtype)
            x = torch.addcmul(noise, x, demodulation).add_(offset)
        return bounded(F.leaky_relu_(x, _SLOPE))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three channels, without demodulation.

    Args:
        channels: Channels in.
        latent_dim: Length of a style vector.
    """

    def __init__(self, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.style = EqualLinear(latent_dim, channels, bias=1.0)
        self.scale = 1 / math.sqrt(channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x: (N, C, H, W), style: (N, D) -> (N, 3, H, W) in the dtype of the style; in float16 within ±256."""
        modulation = self.style(style) * self.scale  # (N, C)
        x = x * modulation.to(x.dtype)[:, :, None, None]
        x = conv2d(x, self.weight.to(x.dtype), self.bias.to(x.dtype))
        return bounded(x).to(style.dtype)
