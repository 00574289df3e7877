"""Penalties on gradients: R1 of the discriminator, path lengths of the generator. All can be differentiated again."""

import torch
from torch import Tensor

from tenshot.losses.arithmetic import full_precision

__all__ = ["path_length_penalty", "path_lengths", "r1_penalty"]


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Squared norm of the gradient of the discriminator at real images (Mescheder et al. 2018, eq. 9).

    The loss is gamma / 2 times its mean, times the interval at which it is taken.

    Args:
        logits: (N, ...), computed from ``images``. Of a map of patches it is the mean that is differentiated.
        images: (N, C, H, W) that require grad.

    Returns:
        (N,), at least float32.
    """
    per_image = logits.reshape(len(logits), -1).mean(dim=1)
    (gradient,) = torch.autograd.grad(per_image.sum(), images, create_graph=True)
    return full_precision(gradient).square().flatten(1).sum(dim=1)


def path_lengths(images: Tensor, styles: Tensor, noise: Tensor | None = None) -> Tensor:
    """How far an image moves with its styles: |J^T y| with images y of noise (StyleGAN2, section 3.2).

    y has the standard deviation 1 / sqrt(H W); squared norms are summed over D and averaged over the S styles.

    Args:
        images: (N, C, H, W), computed from ``styles``.
        styles: (N, S, D) that require grad.
        noise: (N, C, H, W) standard normal numbers; drawn where not given.

    Returns:
        (N,), at least float32.
    """
    noise = torch.randn_like(images) if noise is None else noise
    pixels = images.shape[-2] * images.shape[-1]
    (gradient,) = torch.autograd.grad((images * noise).sum() / pixels**0.5, styles, create_graph=True)
    return full_precision(gradient).square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(
    lengths: Tensor, running_mean: Tensor, mean_length: Tensor | None = None, decay: float = 0.01
) -> tuple[Tensor, Tensor]:
    """Squared distance of the path lengths to their running mean (StyleGAN2, eq. 4).

    The mean is moved first, and the share that these lengths have in it is differentiated with them.

    Args:
        lengths: (N,) of ``path_lengths``.
        running_mean: () the mean before; 0 at the start of training.
        mean_length: () the mean of the lengths of all processes, with its gradient; of ``lengths`` where not given.
        decay: Share of the new lengths in the mean.

    Returns:
        The penalty, averaged over images, and the mean after, without gradient: both ().
    """
    mean_length = lengths.mean() if mean_length is None else mean_length
    moved = running_mean + decay * (mean_length - running_mean)
    return (lengths - moved).square().mean(), moved.detach()
