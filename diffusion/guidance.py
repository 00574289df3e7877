"""Guidance: a gradient that pulls each step towards a wish, as a wrapper of what is drawn from."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.diffusion.denoiser import Condition, Denoiser
from tenshot.diffusion.gaussian import GaussianDiffusion
from tenshot.losses.arithmetic import full_precision
from tenshot.losses.variational import ReverseStep

__all__ = ["Guidance", "Guided", "classifier_guidance"]

Guidance = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t as the network is given it) -> gradient of a log-probability with respect to x_t, (N, C, H, W), scaled."""


class Guided(Denoiser):
    """A denoiser whose every step is pulled by a gradient, taken at x_t (ADM, arXiv 2105.05233, algorithms 1 and 2).

    Args:
        denoiser: What is guided.
        guidance: The pull.
    """

    def __init__(self, denoiser: Denoiser, guidance: Guidance) -> None:
        super().__init__(denoiser.process, denoiser.network)
        self.denoiser, self.guidance = denoiser, guidance

    def on(self, process: GaussianDiffusion) -> "Guided":
        """The same with another process."""
        return Guided(self.denoiser.on(process), self.guidance)

    def at_step(self, step: int) -> "Guided":
        """The same around what denoises at that step."""
        return Guided(self.denoiser.at_step(step), self.guidance)

    def output(self, x_t: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """What a network returns whose noise is shifted as in ``x0_eps``, unclamped; the variance is not shifted."""
        output = self.denoiser.output(x_t, t, condition)
        eps = self._shifted(x_t, t, self.process.predict_eps(x_t, t, self.process.x0(output, x_t, t)))
        prediction = self.process.target(self.process.predict_x0(x_t, t, eps), x_t, t, eps)
        _, variance = self.process.split(output, x_t)
        return prediction if variance is None else torch.cat([prediction, variance], dim=1)

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition = None, clip_denoised: bool = True) -> ReverseStep:
        """The mean is shifted by variance * gradient; ``x0`` stays what the network sees."""
        p = self.denoiser.denoise(x_t, t, condition, clip_denoised)
        return p._replace(mean=p.mean + p.variance * self.guidance(x_t, self.process.model_timesteps(t)))

    def x0_eps(
        self, x_t: Tensor, t: Tensor, condition: Condition = None, clip_denoised: bool = True
    ) -> tuple[Tensor, Tensor]:
        """The noise is shifted by -sqrt(1 - alpha-bar) * gradient; the images that follow are not clamped again."""
        _, eps = self.denoiser.x0_eps(x_t, t, condition, clip_denoised)
        eps = self._shifted(x_t, t, eps)
        return self.process.predict_x0(x_t, t, eps), eps

    def _shifted(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        _, sigma = self.process.signal_and_noise(t, eps)
        return eps - sigma * self.guidance(x_t, self.process.model_timesteps(t))


def classifier_guidance(classifier: Callable[[Tensor, Tensor], Tensor], labels: Tensor, scale: float) -> Guidance:
    """Guidance towards classes by a classifier of noisy images: scale * grad_x log p(label | x_t) (ADM, section 4).

    Works inside ``no_grad`` and ``inference_mode``, and leaves no gradient in the classifier's parameters.

    Args:
        classifier: (x_t, t) -> logits (N, K). In evaluation mode, trained with the same schedule and the same t as
            the diffusion model.
        labels: (N,) int64, 0 ... K - 1.
        scale: Strength; 1 samples from p(x | label) if both networks are perfect.
    """

    def gradient(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            # Clones, since tensors born in inference mode can't enter a graph.
            x = full_precision(x_t).detach().clone().requires_grad_()
            log_probs = F.log_softmax(full_precision(classifier(x, t.clone())), dim=1)
            # Samples do not interact, so the gradient of the sum holds each one's own.
            chosen = log_probs.gather(1, labels.clone().view(-1, 1)).sum()
            return scale * torch.autograd.grad(chosen, x)[0]

    return gradient
