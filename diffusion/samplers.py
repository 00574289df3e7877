"""Samplers that walk a process step by step: ancestral, DDIM, and DDIM backwards from image to noise.

What they share: ``model`` is any callable (x_t, t) -> output, in evaluation mode and given the time that
``diffusion.model_timesteps`` tells. A process respaced with ``diffusion.respace`` makes fewer steps. The state is
float32 (float64 if the noise is) whatever the model computes in. ``progress(done, total, x0)`` is called after each
step with the current estimate of the clean image. Nothing records gradients.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from tenshot.diffusion.gaussian import GaussianDiffusion
from tenshot.diffusion.guidance import Guidance
from tenshot.diffusion.tables import full_precision

__all__ = ["Model", "Progress", "ddim_encode", "estimate_x0_eps", "sample_ddim", "sample_ddpm"]

Model = Callable[[Tensor, Tensor], Tensor]
Progress = Callable[[int, int, Tensor], None]


@torch.no_grad()
def sample_ddpm(
    diffusion: GaussianDiffusion,
    model: Model,
    noise: Tensor,
    *,
    randn: Callable[[Tensor], Tensor] = torch.randn_like,
    clip_denoised: bool = True,
    guidance: Guidance | None = None,
    guidance_at: Literal["input", "mean"] = "input",
    progress: Progress | None = None,
) -> Tensor:
    """Ancestral sampling (DDPM, algorithm 2; guided: ADM, algorithm 1): (N, C, H, W) noise -> images.

    Args:
        diffusion: The process, whole or respaced.
        model: See the module's text.
        noise: x_T, standard normal.
        randn: The noise of a step, shaped like its argument x_t. Called exactly once for every step but the last one
            (t = 0), which adds none: num_steps - 1 times, t descending.
        clip_denoised: Clamp each estimate of the clean image to [-1, 1].
        guidance: Shifts the mean by variance * gradient.
        guidance_at: Where the gradient is taken: ``input`` is x_t at its own t, as published results were made;
            ``mean`` is the step's mean at t - 1, as ADM's derivation has it (at t = 0, where no network knows a clean
            image's time, step 0's).
        progress: See the module's text.
    """
    x = full_precision(noise)
    for step in reversed(range(diffusion.num_steps)):
        t = torch.full((len(x),), step, device=x.device)
        model_t = diffusion.model_timesteps(t)
        p = diffusion.p_mean_variance(model(x, model_t), x, t, clip_denoised)
        mean = p.mean
        if guidance is not None:
            if guidance_at == "input":
                gradient = guidance(x, model_t)
            else:
                gradient = guidance(mean, diffusion.model_timesteps((t - 1).clamp(min=0)))
            mean = mean + p.variance * gradient
        x = mean + (0.5 * p.log_variance).exp() * randn(x) if step > 0 else mean
        if progress is not None:
            progress(diffusion.num_steps - step, diffusion.num_steps, p.x0)
    return x


@torch.no_grad()
def sample_ddim(
    diffusion: GaussianDiffusion,
    model: Model,
    noise: Tensor,
    *,
    eta: float = 0.0,
    randn: Callable[[Tensor], Tensor] = torch.randn_like,
    clip_denoised: bool = True,
    guidance: Guidance | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """DDIM sampling (DDIM, eq. 12; guided: ADM, algorithm 2): (N, C, H, W) noise -> images.

    Args:
        diffusion: The process, usually respaced (``respace("ddim25")``). A learned variance is not used.
        model: See the module's text.
        noise: x_T, standard normal.
        eta: 0 is deterministic, 1 adds as much noise as ancestral sampling with the posterior variance.
        randn: The noise of a step, shaped like its argument x_t. With eta 0 never called; else exactly once for every
            step but the last one (t = 0): num_steps - 1 times, t descending.
        clip_denoised: Clamp each estimate of the clean image to [-1, 1], and follow the noise that the clamped one
            implies.
        guidance: Shifts the noise estimate by -sqrt(1 - alpha-bar) * gradient; what then follows is not clamped again.
        progress: See the module's text.
    """
    x = full_precision(noise)
    for step in reversed(range(diffusion.num_steps)):
        x0, eps = estimate_x0_eps(diffusion, model, x, step, clip_denoised, guidance)
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
    diffusion: GaussianDiffusion,
    model: Model,
    x0: Tensor,
    *,
    clip_denoised: bool = False,
    last_step: bool = True,
    progress: Progress | None = None,
) -> Tensor:
    """The noise that deterministic DDIM would turn into x0: its steps in reverse (DDIM, section 4.3).

    Args:
        diffusion: The process that will decode, usually respaced.
        model: See the module's text.
        x0: (N, C, H, W) in [-1, 1].
        clip_denoised: Clamp each estimate of the clean image; what is clamped can't be decoded to the same image.
        last_step: Go on to alpha-bar = 0, where what is left is the network's noise estimate and nothing of the
            image's own. Without it the result is x_T as ``sample_ddim`` starts from, and a network that errs at the
            last step does no harm (ADM found 249 of 250 steps much better than all).
        progress: See the module's text.
    """
    x, total = full_precision(x0), diffusion.num_steps - (not last_step)
    for step in range(total):
        estimate, eps = estimate_x0_eps(diffusion, model, x, step, clip_denoised, None)
        following = float(diffusion.alphas_cumprod_next[step])
        x = math.sqrt(following) * estimate + math.sqrt(1 - following) * eps
        if progress is not None:
            progress(step + 1, total, estimate)
    return x


def estimate_x0_eps(
    diffusion: GaussianDiffusion, model: Model, x: Tensor, step: int, clip_denoised: bool, guidance: Guidance | None
) -> tuple[Tensor, Tensor]:
    """The clean image and the noise in x; the noise follows from the clamped image, not from the network."""
    t = torch.full((len(x),), step, device=x.device)
    model_t = diffusion.model_timesteps(t)
    x0 = diffusion.x0(model(x, model_t), x, t)
    if clip_denoised:
        x0 = x0.clamp(-1, 1)
    eps = diffusion.predict_eps(x, t, x0)
    if guidance is not None:
        eps = eps - float(diffusion.sqrt_one_minus_alphas_cumprod[step]) * guidance(x, model_t)
        x0 = diffusion.predict_x0(x, t, eps)
    return x0, eps
