"""What DDPM-PA adds: similarities within a batch, kept from the source, and high frequencies by Haar wavelets."""

from typing import Literal

import pywt
import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.losses.arithmetic import check_choice, full_precision, off_diagonal, row_divergence

__all__ = ["Direction", "Reduction", "high_frequency", "high_frequency_mse", "pairwise_similarity_loss"]

Direction = Literal["adapted||source", "source||adapted"]
Reduction = Literal["sum", "mean"]

_HAAR = pywt.Wavelet("haar")
_LOW, _HIGH = torch.tensor(_HAAR.dec_lo, dtype=torch.float64), torch.tensor(_HAAR.dec_hi, dtype=torch.float64)
# LH + HL + HH: added bands are one filter, [[a, a], [a, b]]. Its squared norm is 3, constant images give 0.
_KERNEL = torch.outer(_LOW, _HIGH) + torch.outer(_HIGH, _LOW) + torch.outer(_HIGH, _HIGH)
# As numbers: a tensor would have to be brought to the device at every call, which waits for it.
_MEAN, _CORNER = 4 * _KERNEL[0, 0].item(), (_KERNEL[1, 1] - _KERNEL[0, 0]).item()


def pairwise_similarity_loss(
    adapted: Tensor, source: Tensor, direction: Direction = "adapted||source", reduction: Reduction = "sum"
) -> Tensor:
    """KL divergence between the similarity distributions of two models on the same batch (DDPM-PA, eqs. 4 to 7).

    Image i has the distribution softmax over j != i of cos(z_i, z_j), z a whole image as one vector. The paper sums
    KL(adapted || source) over i; its code averages KL(source || adapted) over the N (N - 1) pairs: 6 times less at
    N = 3, 132 times less at N = 12. The directions differ by a thousandth.

    Args:
        adapted: (N, ...) one vector an image, any shape. With N < 3 there is nothing to compare: the loss is 0.
        source: Same shape, of the frozen model. Taken as a constant.
        direction: Which distribution the divergence is taken under.
        reduction: ``sum`` over images (the paper), ``mean`` over pairs (its code).

    Returns:
        A scalar, at least float32, also under autocast.

    Raises:
        InputError: An unknown direction or reduction.
    """
    check_choice("pairwise direction", direction, Direction)
    check_choice("pairwise reduction", reduction, Reduction)
    if len(adapted) < 2:
        return adapted.sum() * 0.0
    with torch.autocast(adapted.device.type, enabled=False):
        of_adapted, of_source = _similarities(adapted), _similarities(source.detach())
    first, second = (of_adapted, of_source) if direction == "adapted||source" else (of_source, of_adapted)
    return row_divergence(first, second, reduction)


def _similarities(x: Tensor) -> Tensor:
    """Each image's cosines with the others: (N, ...) -> (N, N - 1)."""
    x = full_precision(x).flatten(1)
    norms = x.norm(dim=1)
    return off_diagonal((x @ x.T) / torch.outer(norms, norms).clamp_min(1e-8))


def high_frequency(x: Tensor) -> Tensor:
    """The sum of the three high-frequency Haar bands, LH + HL + HH, of each channel (DDPM-PA, section 4).

    Two by two pixels become one, by correlation with [[-1, -1], [-1, 3]] / 2; a last odd row or column is dropped.

    Args:
        x: (N, C, H, W), at least 2 x 2 pixels.

    Returns:
        (N, C, H // 2, W // 2), at least float32, also under autocast.
    """
    x = full_precision(x)
    with torch.autocast(x.device.type, enabled=False):
        return _MEAN * F.avg_pool2d(x, 2) + _CORNER * x[..., 1::2, 1::2]


def high_frequency_mse(x0_hat: Tensor, x0: Tensor) -> Tensor:
    """Mean squared difference of the high-frequency parts of each image and its estimate (DDPM-PA, L_hfmse).

    Args:
        x0_hat: (N, C, H, W) estimates of the clean images, not clamped.
        x0: (N, C, H, W) the clean images.

    Returns:
        (N,)
    """
    return high_frequency(x0_hat - x0).square().flatten(1).mean(dim=1)
