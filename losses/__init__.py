"""Losses: functions of tensors that return a scalar or one value per sample."""

from tenshot.losses.adversarial import (
    nonsaturating_discriminator_loss,
    nonsaturating_generator_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from tenshot.losses.cross_domain import cross_domain_distance_loss
from tenshot.losses.ddpm_pa import high_frequency, high_frequency_mse, pairwise_similarity_loss
from tenshot.losses.gradient_penalties import (
    interpolated,
    path_length_penalty,
    path_lengths,
    r1_penalty,
    wgan_gradient_penalty,
)
from tenshot.losses.mixup import mixing_coefficients, mixup_distance_loss
from tenshot.losses.perceptual import perceptual_loss
from tenshot.losses.variational import hybrid_loss, vlb_loss
from tenshot.losses.weighting import edm_weight, min_snr_weight

__all__ = [
    "cross_domain_distance_loss",
    "edm_weight",
    "high_frequency",
    "high_frequency_mse",
    "hybrid_loss",
    "interpolated",
    "min_snr_weight",
    "mixing_coefficients",
    "mixup_distance_loss",
    "nonsaturating_discriminator_loss",
    "nonsaturating_generator_loss",
    "pairwise_similarity_loss",
    "path_length_penalty",
    "path_lengths",
    "perceptual_loss",
    "r1_penalty",
    "vlb_loss",
    "wasserstein_critic_loss",
    "wasserstein_generator_loss",
    "wgan_gradient_penalty",
]
