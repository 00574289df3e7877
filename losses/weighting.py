"""How much the squared error of a clean image counts, by the ratio of signal to noise in what it is estimated from."""

from torch import Tensor

__all__ = ["edm_weight", "min_snr_weight"]


def min_snr_weight(snr: Tensor, gamma: float) -> Tensor:
    """min(SNR, gamma): (N,) -> (N,) (Min-SNR-gamma, arXiv 2303.09556, section 3.4)."""
    return snr.clamp(max=gamma)


def edm_weight(snr: Tensor, data_std: float) -> Tensor:
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 (EDM, arXiv 2206.00364, section 5).

    Args:
        snr: (N,), 1 / sigma^2.
        data_std: sigma_data, the standard deviation of pixels of the images.

    Returns:
        (N,)
    """
    return snr + data_std**-2
