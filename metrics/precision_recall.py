"""Improved precision and recall (arXiv 1904.06991): how much of either set lies within the other's neighbourhoods."""

import torch
from torch import nn

from tenshot.errors import InputError
from tenshot.metrics import neighbours
from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import FeatureName, VGG16Features

__all__ = ["PrecisionRecall"]


class PrecisionRecall(FeatureMetric):
    """The share of generated images near real ones, and of real images near generated ones.

    Near is nearer than that image's k-th neighbour in its own set, or as near. ``precision`` and ``recall`` with the
    published VGG16, else ``precision_<features>`` and ``recall_<features>``. Meaningful with about a thousand images
    of each set, not against ten shots.

    Args:
        features: ``inception``, ``vgg16``, ``random``, or any module that returns rows (N, d).
        weights: Weight file of a named network; none for the public one.
        k: Which neighbour, not counting the image itself.
    """

    headlines = 2
    more_is_better = (True, True)

    def __init__(self, features: FeatureName | nn.Module = "vgg16", weights: str | None = None, k: int = 3) -> None:
        super().__init__(features, weights)
        if k < 1:
            raise InputError(f"PrecisionRecall: k is {k}: choose 1 or more")
        self.k = k

    def names(self) -> tuple[str, ...]:
        """Precision and recall."""
        suffix = "" if self.features.is_published(VGG16Features) else f"_{self.features.name}"
        return f"precision{suffix}", f"recall{suffix}"

    def evaluate(self) -> Report:
        """Precision and recall; NaN where a set has no k-th neighbours."""
        settings = self.counts() | self.features.settings() | {"k": self.k}
        made, given = settings["n_generated"], settings["n_real"]
        values = dict.fromkeys(self.names(), float("nan"))
        generated, real = self.rows("generated"), self.rows("real")
        if generated is None or real is None or min(made, given) <= self.k:
            why = f"k = {self.k} needs {self.k + 1} images of each set, there are {made} generated, {given} real"
            return Report(values, settings, {"why": why})
        x, y = (rows.to(self.worker, torch.float64) for rows in (generated, real))
        centre = y.mean(dim=0)  # near the origin products round less
        x, y = x - centre, y - centre
        precision = neighbours.inside(x, y, neighbours.radii(y, self.k)).double().mean().item()
        recall = neighbours.inside(y, x, neighbours.radii(x, self.k)).double().mean().item()
        return Report(dict(zip(values, (precision, recall), strict=True)), settings)
