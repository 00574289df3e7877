"""Penalties on gradients: R1 and WGAN-GP's of discriminators, path lengths of generators. All can be differentiated
again."""

import torch
from torch import Tensor

from tenshot.losses.arithmetic import full_precision

__all__ = ["interpolated", "path_length_penalty", "path_lengths", "r1_penalty", "wgan_gradient_penalty"]


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


def interpolated(real: Tensor, fake: Tensor, share: Tensor | None = None) -> Tensor:
    """Images on the lines from generated to real ones, where ``wgan_gradient_penalty`` is taken (WGAN-GP, algorithm 1).

    Args:
        real: (N, C, H, W)
        fake: (N, C, H, W)
        share: (N,) how much there is of the real one; drawn from U(0, 1) where not given.

    Returns:
        (N, C, H, W), at least float32, without a history, that require grad.
    """
    real, fake = full_precision(real.detach()), full_precision(fake.detach())
    share = torch.rand(len(real), dtype=real.dtype, device=real.device) if share is None else share
    return fake.lerp(real, share.to(real.dtype).view(-1, 1, 1, 1)).requires_grad_()


def wgan_gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Squared distance of the norm of the discriminator's gradient to 1 (WGAN-GP, arXiv 1704.00028, algorithm 1).

    The loss is 10 times its mean. Of a map of patches it is the sum that is differentiated, as PITI's code does.

    Args:
        logits: (N, ...), computed from ``images``, out of autocast: it has second derivatives, which suffer.
        images: (N, C, H, W) of ``interpolated``.

    Returns:
        (N,), at least float32.
    """
    with torch.autocast(images.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(full_precision(logits).sum(), images, create_graph=True)
        # its derivative is 0 where the gradient is
        return (torch.linalg.vector_norm(full_precision(gradient).flatten(1), dim=1) - 1).square()


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
