"""High frequencies of images by Haar wavelets, and how far two images differ in them (DDPM-PA, section 4)."""

import pywt
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["high_frequency", "high_frequency_mse"]

_HAAR = pywt.Wavelet("haar")
_LOW, _HIGH = torch.tensor(_HAAR.dec_lo, dtype=torch.float64), torch.tensor(_HAAR.dec_hi, dtype=torch.float64)
# LH + HL + HH: added bands are one filter, [[a, a], [a, b]]. Its squared norm is 3, constant images give 0.
_KERNEL = torch.outer(_LOW, _HIGH) + torch.outer(_HIGH, _LOW) + torch.outer(_HIGH, _HIGH)
# As numbers: a tensor would have to be brought to the device at every call, which waits for it.
_MEAN, _CORNER = 4 * _KERNEL[0, 0].item(), (_KERNEL[1, 1] - _KERNEL[0, 0]).item()


def high_frequency(x: Tensor) -> Tensor:
    """The sum of the three high-frequency Haar bands, LH + HL + HH, of each channel (DDPM-PA, section 4).

    Two by two pixels become one, by correlation with [[-1, -1], [-1, 3]] / 2; a last odd row or column is dropped.

    Args:
        x: (N, C, H, W), at least 2 x 2 pixels.

    Returns:
        (N, C, H // 2, W // 2), at least float32, also under autocast.
    """
    x = x if x.dtype == torch.float64 else x.float()
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
