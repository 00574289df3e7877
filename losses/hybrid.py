"""Training losses of a diffusion model: the hybrid of Improved DDPM and ADM, and the pure variational bound."""

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["hybrid_loss", "vlb_loss"]


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

    Returns:
        ``mse`` (N,), and ``vb`` (N,) where the variance is learned; the loss is their sum.
    """
    prediction, variance = diffusion.split(output, x_t)
    terms = {"mse": (diffusion.target(x0, x_t, t, noise) - prediction).square().flatten(1).mean(dim=1)}
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
