"""Adversarial losses on logits of any shape, one an image or a map of patches: StyleGAN2's and WGAN's."""

import torch.nn.functional as F
from torch import Tensor

from tenshot.losses.arithmetic import full_precision

__all__ = [
    "nonsaturating_discriminator_loss",
    "nonsaturating_generator_loss",
    "wasserstein_critic_loss",
    "wasserstein_generator_loss",
]


def nonsaturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(G(z))), averaged: what the generator descends (Goodfellow et al. 2014, section 3).

    Args:
        fake_logits: Any shape, of generated images.

    Returns:
        A scalar, at least float32.
    """
    return F.softplus(-full_precision(fake_logits)).mean()


def nonsaturating_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))), each averaged.

    Args:
        real_logits: Any shape, of real images.
        fake_logits: Any shape, of generated ones.

    Returns:
        A scalar, at least float32.
    """
    return F.softplus(-full_precision(real_logits)).mean() + F.softplus(full_precision(fake_logits)).mean()


def wasserstein_generator_loss(fake_logits: Tensor) -> Tensor:
    """-D(G(z)) of each image, averaged over its patches (WGAN, arXiv 1701.07875, algorithm 1).

    Args:
        fake_logits: (N, ...) of generated images.

    Returns:
        (N,), at least float32.
    """
    return -full_precision(fake_logits).reshape(len(fake_logits), -1).mean(dim=1)


def wasserstein_critic_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """D(G(z)) - D(x), each averaged: what the critic descends, beside its gradient penalty (WGAN, algorithm 1).

    Args:
        real_logits: Any shape, of real images.
        fake_logits: Any shape, of generated ones.

    Returns:
        A scalar, at least float32.
    """
    return full_precision(fake_logits).mean() - full_precision(real_logits).mean()
