"""Samplers that walk a process step by step: ancestral, DDIM, and DDIM backwards from image to noise.

What they share: the denoiser's network is in evaluation mode, and is told the ``condition`` at every step; a guided
denoiser pulls each step. One respaced with ``denoiser.respace`` makes fewer steps. The state is float32 (float64 if the
noise is) whatever the network computes in. ``progress(done, total, x0)`` is called after each step with the current
estimate of the clean image. Nothing records gradients.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tenshot.diffusion.denoiser import Condition, Denoiser
from tenshot.losses.arithmetic import full_precision

__all__ = ["Progress", "ddim_encode", "sample_ddim", "sample_ddpm"]

Progress = Callable[[int, int, Tensor], None]


@torch.no_grad()
def sample_ddpm(
    denoiser: Denoiser,
    noise: Tensor,
    condition: Condition = None,
    *,
    randn: Callable[[Tensor], Tensor] = torch.randn_like,
    clip_denoised: bool = True,
    progress: Progress | None = None,
    left_out: int = 0,
) -> Tensor:
    """Ancestral sampling (DDPM, algorithm 2; guided: ADM, algorithm 1): (N, C, H, W) noise -> images.

    Args:
        denoiser: With its process, whole or respaced.
        noise: x_T, standard normal.
        condition: What the network is told.
        randn: The noise of a step, shaped like its argument x_t. Called exactly once for every step but the last one
            (t = 0), which adds none: num_steps - 1 times, t descending.
        clip_denoised: Clamp each estimate of the clean image to [-1, 1].
        progress: See the module's text.
        left_out: How many of the last steps are not done: the result is x_t with t = left_out - 1.
    """
    x, total = full_precision(noise), denoiser.process.num_steps
    for step in reversed(range(left_out, total)):
        t = torch.full((len(x),), step, device=x.device)
        p = denoiser.at_step(step).denoise(x, t, condition, clip_denoised)
        x = p.mean + (0.5 * p.log_variance).exp() * randn(x) if step > 0 else p.mean
        if progress is not None:
            progress(total - step, total, p.x0)
    return x


@torch.no_grad()
def sample_ddim(
    denoiser: Denoiser,
    noise: Tensor,
    condition: Condition = None,
    *,
    eta: float = 0.0,
    randn: Callable[[Tensor], Tensor] = torch.randn_like,
    clip_denoised: bool = True,
    progress: Progress | None = None,
    left_out: int = 0,
) -> Tensor:
    """DDIM sampling (DDIM, eq. 12; guided: ADM, algorithm 2): (N, C, H, W) noise -> images.

    Args:
        denoiser: Usually respaced (``respace("ddim25")``). A learned variance is not used.
        noise: x_T, standard normal.
        condition: What the network is told.
        eta: 0 is deterministic, 1 adds as much noise as ancestral sampling with the posterior variance.
        randn: The noise of a step, shaped like its argument x_t. With eta 0 never called; else exactly once for every
            step but the last one (t = 0): num_steps - 1 times, t descending.
        clip_denoised: Clamp each estimate of the clean image to [-1, 1], and follow the noise that the clamped one
            implies.
        progress: See the module's text.
        left_out: How many of the last steps are not done: the result is x_t with t = left_out - 1.
    """
    x, diffusion = full_precision(noise), denoiser.process
    for step in reversed(range(left_out, diffusion.num_steps)):
        t = torch.full((len(x),), step, device=x.device)
        x0, eps = denoiser.at_step(step).x0_eps(x, t, condition, clip_denoised)
        alpha_bar, previous = float(diffusion.alphas_cumprod[step]), float(diffusion.alphas_cumprod_prev[step])
        sigma = eta * math.sqrt((1 - previous) / (1 - alpha_bar) * (1 - alpha_bar / previous))
        # A coarse step with eta 1 leaves next to nothing for eps: rounding, or a larger eta, would make that negative.
        direction = math.sqrt(max(1 - previous - sigma**2, 0.0))
        x = math.sqrt(previous) * x0 + direction * eps + (sigma * randn(x) if eta != 0 and step > 0 else 0.0)
        if progress is not None:
            progress(diffusion.num_steps - step, diffusion.num_steps, x0)
    return x


@torch.no_grad()
def ddim_encode(
    denoiser: Denoiser,
    x0: Tensor,
    condition: Condition = None,
    *,
    clip_denoised: bool = False,
    last_step: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """The noise that deterministic DDIM would turn into x0: its steps in reverse (DDIM, section 4.3).

    Args:
        denoiser: What will decode, usually respaced.
        x0: (N, C, H, W) in [-1, 1].
        condition: What the network is told.
        clip_denoised: Clamp each estimate of the clean image; what is clamped can't be decoded to the same image.
        last_step: Go on to alpha-bar = 0, where what is left is the network's noise estimate and nothing of the
            image's own. Without it the result is x_T as ``sample_ddim`` starts from, and a network that errs at the
            last step does no harm (ADM found 249 of 250 steps much better than all).
        progress: See the module's text.
    """
    x, diffusion = full_precision(x0), denoiser.process
    total = diffusion.num_steps - (not last_step)
    for step in range(total):
        t = torch.full((len(x),), step, device=x.device)
        estimate, eps = denoiser.at_step(step).x0_eps(x, t, condition, clip_denoised)
        following = float(diffusion.alphas_cumprod_next[step])
        x = math.sqrt(following) * estimate + math.sqrt(1 - following) * eps
        if progress is not None:
            progress(step + 1, total, estimate)
    return x
