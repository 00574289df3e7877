"""The perceptual loss: how far apart two images are in a network's feature maps (arXiv 1603.08155)."""

from torch import Tensor

from tenshot.losses.arithmetic import full_precision

__all__ = ["perceptual_loss"]


def perceptual_loss(estimates: Tensor, truths: Tensor) -> Tensor:
    """Mean squared difference of feature maps (PITI's code, where the weight of VGG19's conv2_2 is 0.004).

    Args:
        estimates: (N, C, H, W) features of estimated images.
        truths: The same of the true ones. Taken as constants.

    Returns:
        (N,), at least float32.
    """
    difference = full_precision(estimates) - full_precision(truths.detach())
    return difference.square().flatten(1).mean(dim=1)
