"""Guidance: a gradient that pulls each step towards a wish."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.diffusion.tables import full_precision

__all__ = ["Guidance", "classifier_guidance"]

Guidance = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t as the network is given it) -> gradient of a log-probability with respect to x_t, (N, C, H, W), scaled."""


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
