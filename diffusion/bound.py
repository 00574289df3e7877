"""Evaluation of the variational bound on given images, of a model and of a cascade."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tenshot.diffusion.denoiser import Condition, Denoiser
from tenshot.diffusion.gaussian import GaussianDiffusion
from tenshot.errors import InputError
from tenshot.losses.arithmetic import full_precision
from tenshot.losses.variational import bits_of_step

__all__ = ["VariationalBound", "bits_per_dim", "cascade_bits_per_dim"]


class VariationalBound(NamedTuple):
    """Bits per dimension of each sample, and its terms at T steps; column 0 belongs to the first step of the bound."""

    total: Tensor  # (N,)    vb summed over t, plus prior
    prior: Tensor  # (N,)
    vb: Tensor  # (N, T)  bits per dimension
    x0_mse: Tensor  # (N, T)  of the estimated clean image
    mse: Tensor  # (N, T)  of the noise that this estimate implies


@torch.no_grad()
def bits_per_dim(
    denoiser: Denoiser,
    x0: Tensor,
    condition: Condition = None,
    *,
    above: int = 0,
    randn: Callable[[Tensor], Tensor] = torch.randn_like,
    clip_denoised: bool = True,
) -> VariationalBound:
    """The negative log-likelihood bound of each image (IDDPM, eq. 4), one network call and one noise a step.

    With ``above`` the part of a cascade's bound that belongs to a stage whose successor is given x_s instead of x_0:
    the prior and the steps above s, which give p(x_s) (cascaded diffusion models, arXiv 2106.15282, section 4).

    Args:
        denoiser: In evaluation mode. A respaced one gives the bound of its own, shorter chain.
        x0: (N, C, H, W), 256 levels in [-1, 1].
        condition: What the network is told; of a super-resolution stage the low-resolution image, noised.
        above: s, counted from 1 in the process that the network was trained on; 0 for the whole bound.
        randn: Noise shaped like its argument; called once a step, from the last step down to the first.
        clip_denoised: Clamp the clean estimate to [-1, 1], as published numbers were taken.

    Raises:
        InputError: The process has no step s.
    """
    x0, diffusion = full_precision(x0), denoiser.process
    first = _steps_below(diffusion, above)
    vb, x0_mse, mse = (x0.new_empty(len(x0), diffusion.num_steps - first) for _ in range(3))
    for column in reversed(range(diffusion.num_steps - first)):
        step = first + column
        t = torch.full((len(x0),), step, device=x0.device)
        noise = randn(x0)
        x_t = diffusion.q_sample(x0, t, noise)
        p = denoiser.denoise(x_t, t, condition, clip_denoised)
        vb[:, column] = bits_of_step(diffusion.posterior(x0, x_t, t), p, x0, t)
        x0_mse[:, column] = _mean_square(p.x0 - x0)
        mse[:, column] = _mean_square(diffusion.predict_eps(x_t, t, p.x0) - noise)
    prior = diffusion.prior_bpd(x0)
    return VariationalBound(vb.sum(dim=1) + prior, prior, vb, x0_mse, mse)


def cascade_bits_per_dim(stages: Sequence[tuple[Tensor, int]]) -> Tensor:
    """The bound of a whole cascade, in bits per dimension of the last stage's images (CDM, section 4).

    Args:
        stages: From the base on, each stage's ``bits_per_dim(...).total`` (N,), of a base or a middle stage ``above``
            the s that the next stage is given, and how many dimensions C H W its images have.

    Returns:
        (N,)
    """
    return torch.stack([bits * dimensions for bits, dimensions in stages]).sum(dim=0) / stages[-1][1]


def _steps_below(process: GaussianDiffusion, s: int) -> int:
    """How many steps of the process lie at or below step s of the one that the network was trained on."""
    if s == 0:
        return 0
    if s - 1 not in process.timestep_map:
        raise InputError(
            f"there is no bound above s = {s}: the process has {process.num_steps} of {process.config.num_steps} "
            "steps, without that one: choose one that it has, or all steps"
        )
    return process.timestep_map.index(s - 1) + 1


def _mean_square(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(dim=1)
