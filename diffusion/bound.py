"""Evaluation of the whole variational bound of a model on given images."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tenshot.diffusion.denoiser import Condition, Denoiser
from tenshot.losses.arithmetic import full_precision
from tenshot.losses.variational import bits_of_step

__all__ = ["VariationalBound", "bits_per_dim"]


class VariationalBound(NamedTuple):
    """Bits per dimension of each sample, and its terms; column t of the series belongs to step t."""

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
    randn: Callable[[Tensor], Tensor] = torch.randn_like,
    clip_denoised: bool = True,
) -> VariationalBound:
    """The negative log-likelihood bound of each image (IDDPM, eq. 4), one network call and one noise a step.

    Args:
        denoiser: In evaluation mode. A respaced one gives the bound of its own, shorter chain.
        x0: (N, C, H, W), 256 levels in [-1, 1].
        condition: What the network is told.
        randn: Noise shaped like its argument; called once a step, from the last step down to 0.
        clip_denoised: Clamp the clean estimate to [-1, 1], as published numbers were taken.
    """
    x0, diffusion = full_precision(x0), denoiser.process
    vb, x0_mse, mse = (x0.new_empty(len(x0), diffusion.num_steps) for _ in range(3))
    for step in reversed(range(diffusion.num_steps)):
        t = torch.full((len(x0),), step, device=x0.device)
        noise = randn(x0)
        x_t = diffusion.q_sample(x0, t, noise)
        p = denoiser.denoise(x_t, t, condition, clip_denoised)
        vb[:, step] = bits_of_step(diffusion.posterior(x0, x_t, t), p, x0, t)
        x0_mse[:, step] = _mean_square(p.x0 - x0)
        mse[:, step] = _mean_square(diffusion.predict_eps(x_t, t, p.x0) - noise)
    prior = diffusion.prior_bpd(x0)
    return VariationalBound(vb.sum(dim=1) + prior, prior, vb, x0_mse, mse)


def _mean_square(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(dim=1)
