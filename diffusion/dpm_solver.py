"""DPM-Solver++(2M): good samples of a trained network in 15 to 20 steps (arXiv 2211.01095, algorithm 2)."""

import numpy as np
import torch
from torch import Tensor

from tenshot.diffusion.denoiser import Condition, Denoiser
from tenshot.diffusion.gaussian import GaussianDiffusion
from tenshot.diffusion.samplers import Progress
from tenshot.errors import InputError
from tenshot.losses.arithmetic import full_precision

__all__ = ["sample_dpm_solver"]

_NOISE_ONLY = -5.0  # log(signal/noise) where the linear schedule ends; the cosine one goes on to -9.9 to no effect


@torch.no_grad()
def sample_dpm_solver(
    denoiser: Denoiser,
    noise: Tensor,
    steps: int = 20,
    condition: Condition = None,
    *,
    clip_denoised: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """Deterministic sampling with a second-order multistep solver in log-SNR: (N, C, H, W) noise -> images.

    Solves the same equation as DDIM with eta 0, one network call a step; its first and last steps are DDIM's.

    Args:
        denoiser: With the whole process: the solver picks its own steps from it, all of them times the network knows
            (between its steps for a network that is told the noise level). The network in evaluation mode. Guidance
            acts as in ``sample_ddim``.
        noise: x_T, standard normal.
        steps: Network calls, 1 ... num_steps; at least 2 and without bound where the network is told the noise level.
        condition: What the network is told.
        clip_denoised: Clamp each estimate of the clean image to [-1, 1].
        progress: Called as (done, total, x0) after each step.

    Raises:
        InputError: More steps than the process has, or none.
    """
    if denoiser.process.config.time == "noise_level":
        denoiser = denoiser.on(_even_in_log_snr(denoiser.process, steps))
    diffusion = denoiser.process
    timesteps = _log_snr_timesteps(diffusion, steps)
    log_snr = _half_log_snr(diffusion)
    alpha, sigma = diffusion.sqrt_alphas_cumprod, diffusion.sqrt_one_minus_alphas_cumprod

    x = full_precision(noise)
    older, older_t = None, None
    for done, (t, following) in enumerate(zip(timesteps, [*timesteps[1:], None], strict=True), start=1):
        at = torch.full((len(x),), t, device=x.device)
        x0, _ = denoiser.at_step(t).x0_eps(x, at, condition, clip_denoised)
        if following is None:
            x = x0  # no noise is left: the interval is infinite in log-SNR, and only first order has a limit there
        else:
            interval = log_snr[following] - log_snr[t]
            slope = 0.0 if older is None else (x0 - older) * float(0.5 * interval / (log_snr[t] - log_snr[older_t]))
            x = float(sigma[following] / sigma[t]) * x - float(alpha[following] * np.expm1(-interval)) * (x0 + slope)
        older, older_t = x0, t
        if progress is not None:
            progress(done, steps, x0)
    return x


def _half_log_snr(diffusion: GaussianDiffusion) -> np.ndarray:
    """The solver's time: log of signal over noise at each step, (T,) float64, falling."""
    return np.log(diffusion.sqrt_alphas_cumprod / diffusion.sqrt_one_minus_alphas_cumprod)


def _even_in_log_snr(diffusion: GaussianDiffusion, steps: int) -> GaussianDiffusion:
    """The process of so many steps that are evenly spaced in log-SNR, the noisiest one where the process ends."""
    log_snr = _half_log_snr(diffusion)
    grid = np.linspace(log_snr[0], max(log_snr[-1], _NOISE_ONLY), steps)
    signals = 1 / np.sqrt(1 + np.exp(-2 * grid))
    signals[-1] = diffusion.sqrt_alphas_cumprod[-1]
    return diffusion.at_signals(signals)


def _log_snr_timesteps(diffusion: GaussianDiffusion, steps: int) -> list[int]:
    """Steps of the process nearest to a uniform grid in log-SNR, from the last one down to 0, all different.

    Uniform in t, the usual alternative, ends with one long jump to the clean image that averages fine detail away: on
    a mixture of narrow Gaussians whose exact score is known, 20 steps left a quarter of the true spread around each
    mode (linear schedule; half with the cosine one), where this grid left all of it.
    """
    last = diffusion.num_steps - 1
    if not 1 <= steps <= diffusion.num_steps:
        raise InputError(f"steps {steps}: the solver can take 1 to {diffusion.num_steps} steps of this process")
    log_snr = _half_log_snr(diffusion)
    grid = np.linspace(log_snr[0], max(log_snr[last], _NOISE_ONLY), steps)  # the cleanest first
    nearest = np.abs(log_snr - grid[:, None]).argmin(axis=1)
    nearest[-1] = last
    # Near the clean end neighbours on the grid may share a step: push upwards, but not beyond the last one.
    rank = np.arange(steps)
    distinct = np.minimum(np.maximum.accumulate(nearest - rank) + rank, last + 1 - steps + rank)
    return distinct[::-1].tolist()
