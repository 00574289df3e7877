"""Density and coverage (arXiv 2002.09797): how much of the samples lies among real images, and how many it reaches."""

import torch
from torch import nn

from tenshot.errors import InputError
from tenshot.metrics import neighbours
from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import FeatureName, VGG16Features

__all__ = ["DensityCoverage"]


class DensityCoverage(FeatureMetric):
    """By the neighbourhoods of real images alone, which samples that are outliers cannot widen (Naeem et al. 2020).

    A neighbourhood reaches to the k-th nearest other real image. ``density``: in how many neighbourhoods a sample
    lies, on average, divided by k; 1 for samples of the same distribution, and above 1 where they crowd where real
    images are dense. ``coverage``: the share of neighbourhoods in which a sample lies; for samples of the same
    distribution, and as many, near 1 - 2^-k. What lies as far as the k-th neighbour is not within, as in the
    authors' code. Called so with the published VGG16, else ``density_<features>`` and ``coverage_<features>``.

    Args:
        features: ``inception``, ``vgg16``, ``random``, or any module that returns rows (N, d).
        weights: Weight file of a named network; none for the public one.
        k: Which neighbour, not counting the image itself; 5 in the paper.
    """

    headlines = 2
    more_is_better = (True, True)

    def __init__(self, features: FeatureName | nn.Module = "vgg16", weights: str | None = None, k: int = 5) -> None:
        super().__init__(features, weights)
        if k < 1:
            raise InputError(f"DensityCoverage: k is {k}: choose 1 or more")
        self.k = k

    def names(self) -> tuple[str, ...]:
        """Density and coverage."""
        suffix = "" if self.features.is_published(VGG16Features) else f"_{self.features.name}"
        return f"density{suffix}", f"coverage{suffix}"

    def evaluate(self) -> Report:
        """Density and coverage; NaN where there are no samples, or the real images have no k-th neighbours."""
        settings = self.counts() | self.features.settings() | {"k": self.k}
        made, given = settings["n_generated"], settings["n_real"]
        generated, real = self.rows("generated"), self.rows("real")
        if generated is None or real is None or given <= self.k:
            why = f"k = {self.k} needs {self.k + 1} real images and a sample, there are {given} real, {made} generated"
            return Report(dict.fromkeys(self.names(), float("nan")), settings, {"why": why})
        x, y = (rows.to(self.worker, torch.float64) for rows in (generated, real))
        centre = y.mean(dim=0)  # near the origin products round less
        x, y = x - centre, y - centre
        reach = neighbours.radii(y, self.k)
        density = neighbours.count_inside(x, y, reach).double().mean().item() / self.k
        to_sample, _ = neighbours.nearest(y, x)
        coverage = (to_sample[:, 0] < reach).double().mean().item()
        return Report(dict(zip(self.names(), (density, coverage), strict=True)), settings)
