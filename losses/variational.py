"""The variational bound of a diffusion model, and the training losses made of it: L_hybrid and L_vlb."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = [
    "Moments",
    "ReverseStep",
    "bits_of_step",
    "bits_per_dimension",
    "discretized_gaussian_log_likelihood",
    "hybrid_loss",
    "normal_kl",
    "vlb_loss",
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


class DiffusionProcess(Protocol):
    """What these losses ask of a process; ``tenshot.diffusion.GaussianDiffusion`` has it."""

    @property
    def num_steps(self) -> int:
        """Length of the process."""

    def split(self, output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output's prediction half and, where the variance is learned, its variance half, in full precision."""

    def target(self, x0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the prediction half should be."""

    def vlb_terms(self, output: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, clip_denoised: bool = False) -> Tensor:
        """Each sample's term of the variational bound, (N,) bits per dimension."""


def hybrid_loss(
    diffusion: DiffusionProcess,
    output: Tensor,
    x0: Tensor,
    x_t: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    vlb_weight: float = 0.001,
    mse_weight: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """L_hybrid = L_simple + vlb_weight * L_vlb, as its terms per sample (IDDPM, eq. 16).

    ``vb`` estimates the sum over all steps by num_steps * the term at t. It trains the variance alone: the prediction
    in it is detached. So 0.001 weighs a term by 1 at 1000 steps, as ADM does, and by 4 at 4000, as Improved DDPM does.

    Args:
        diffusion: The process that is trained, not respaced.
        output: (N, C, H, W), or (N, 2C, H, W) where the variance is learned: what the network made of x_t and t.
        x0: (N, C, H, W) clean images in [-1, 1].
        x_t: (N, C, H, W) the same images noised, ``q_sample(x0, t, noise)``.
        t: (N,) int64.
        noise: (N, C, H, W).
        vlb_weight: Weight of L_vlb in bits per dimension.
        mse_weight: That of the squared error at steps t, (N,) -> (N,), such as ``LossWeighting`` gives; none: 1.

    Returns:
        ``mse`` (N,), and ``vb`` (N,) where the variance is learned; the loss is their sum.
    """
    prediction, variance = diffusion.split(output, x_t)
    terms = {"mse": (diffusion.target(x0, x_t, t, noise) - prediction).square().flatten(1).mean(dim=1)}
    if mse_weight is not None:
        terms["mse"] = mse_weight(t) * terms["mse"]
    if variance is not None:
        only_variance = torch.cat([prediction.detach(), variance], dim=1)
        terms["vb"] = vlb_weight * diffusion.num_steps * diffusion.vlb_terms(only_variance, x0, x_t, t)
    return terms


def vlb_loss(
    diffusion: DiffusionProcess, output: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor
) -> dict[str, Tensor]:
    """An estimate of L_vlb, which trains prediction and variance alike (IDDPM, eq. 4).

    Each sample's term at its t, times the number of steps, since the bound is their sum. Noisy with uniform t: draw t
    by ``LossAwareTimesteps``. Arguments as in ``hybrid_loss``; the noise itself is no part of the bound.

    Returns:
        ``vb`` (N,), bits per dimension.
    """
    return {"vb": diffusion.num_steps * diffusion.vlb_terms(output, x0, x_t, t)}
