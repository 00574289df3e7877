"""CMMD: the distance of two sets in CLIP's embedding, which needs no Gaussian."""

import torch
from torch import Tensor, nn

from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import CLIPFeatures, FeatureName

__all__ = ["CMMD"]

SIGMA, SCALE = 10, 1000
TILE = 4096  # rows of a kernel matrix that are in memory at a time


class CMMD(FeatureMetric):
    """1000 times the squared MMD with the kernel exp(-|a - b|² / (2 · 10²)) (arXiv 2401.09603), in float64.

    The means are over all pairs, those of an image with itself among them, as in the paper's code. ``cmmd`` with CLIP,
    else ``cmmd_<features>``.

    Args:
        features: ``clip``, or any module that returns rows (N, d).
        weights: File of CLIP's weights.
    """

    more_is_better = (False,)

    def __init__(self, features: FeatureName | nn.Module = "clip", weights: str | None = None) -> None:
        super().__init__(features, weights)

    def names(self) -> tuple[str, ...]:
        """The distance."""
        return ("cmmd" if isinstance(self.features.network, CLIPFeatures) else f"cmmd_{self.features.name}",)

    def evaluate(self) -> Report:
        """The distance; NaN where a set is empty."""
        (name,), settings = self.names(), self.counts() | self.features.settings()
        generated, real = self.rows("generated"), self.rows("real")
        if generated is None or real is None:
            made, given = settings["n_generated"], settings["n_real"]
            return Report({name: float("nan")}, settings, {"why": f"there are {made} generated, {given} real images"})
        x, y = (rows.to(self.worker, torch.float64) for rows in (generated, real))
        value = SCALE * (_mean_kernel(x, x) + _mean_kernel(y, y) - 2 * _mean_kernel(x, y))
        return Report({name: value}, settings)


def _mean_kernel(x: Tensor, y: Tensor) -> float:
    """(m, d), (n, d)  ->  the mean of the kernel over all pairs"""
    total = 0.0
    for part in x.split(TILE):
        squared = part.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * part @ y.T
        total += float(torch.exp(squared / (-2 * SIGMA**2)).sum())
    return total / (len(x) * len(y))
