"""Gaussians per pixel, and how well one explains the truth: the terms of the variational bound."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Moments",
    "ReverseStep",
    "bits_of_step",
    "bits_per_dimension",
    "discretized_gaussian_log_likelihood",
    "normal_kl",
]

_HALF_BIN = 1 / 255  # pixels have 256 values in [-1, 1], 2/255 apart
_EDGE = 0.999  # beyond it lies only the first or the last pixel value, whose bin is open
_TINY = 1e-12


class Moments(NamedTuple):
    """A Gaussian per pixel; each (N, C, H, W)."""

    mean: Tensor
    variance: Tensor
    log_variance: Tensor


class ReverseStep(NamedTuple):
    """p(x_{t-1} | x_t) as the network sees it, and its estimate of the clean image; each (N, C, H, W)."""

    mean: Tensor
    variance: Tensor
    log_variance: Tensor
    x0: Tensor


def bits_per_dimension(nats: Tensor) -> Tensor:
    """The mean over each sample's dimensions, in bits: (N, ...) nats  ->  (N,)."""
    return nats.flatten(1).mean(dim=1) / math.log(2)


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor | float, log_variance2: Tensor | float) -> Tensor:
    """KL( N(mean1, exp(log_variance1)) || N(mean2, exp(log_variance2)) ) of each element, in nats; shapes broadcast."""
    log_ratio = log_variance1 - log_variance2
    inverse_variance2 = torch.exp(-torch.as_tensor(log_variance2, dtype=mean1.dtype, device=mean1.device))
    # expm1, since e^r - 1 - r would leave only rounding where the two are nearly equal, as in most steps
    return 0.5 * (log_ratio.expm1() - log_ratio + (mean1 - mean2).square() * inverse_variance2)


def _standard_normal_cdf(z: Tensor) -> Tensor:
    """The tanh approximation of the normal CDF. Published bits/dim were counted with it; erf gives others."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def discretized_gaussian_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-probability, in nats, that N(mean, exp(log_scale)^2) gives each pixel's own bin (DDPM, eq. 13).

    x: images with 256 levels in [-1, 1], any shape; mean, log_scale: the same shape  ->  the same shape, <= 0
    """
    centered, inverse_scale = x - mean, torch.exp(-log_scale)
    upper = _standard_normal_cdf(inverse_scale * (centered + _HALF_BIN))
    lower = _standard_normal_cdf(inverse_scale * (centered - _HALF_BIN))
    probability = torch.where(x < -_EDGE, upper, torch.where(x > _EDGE, 1 - lower, upper - lower))
    return probability.clamp(min=_TINY).log()


def bits_of_step(posterior: Moments, step: ReverseStep, x0: Tensor, t: Tensor) -> Tensor:
    """Each sample's term of the variational bound, in bits per dimension: (N,) (IDDPM, eqs. 5 and 6).

    At t > 0 how far the network's step is from the true posterior, at t = 0 what coding the pixels costs.
    """
    kl = normal_kl(posterior.mean, posterior.log_variance, step.mean, step.log_variance)
    decoder = -discretized_gaussian_log_likelihood(x0, step.mean, 0.5 * step.log_variance)
    return torch.where(t == 0, bits_per_dimension(decoder), bits_per_dimension(kl))
