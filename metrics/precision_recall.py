"""Improved precision and recall (arXiv 1904.06991): how much of either set lies within the other's neighbourhoods."""

import torch
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import FeatureName, VGG16Features

__all__ = ["PrecisionRecall"]

TILE = 4096  # rows and columns of a matrix of distances that are in memory at a time
ROUNDING = 1e-9  # error of a squared distance by products in float64, relative to the squared lengths; generously
PAIRS = 2**14  # whose differences are in memory at a time


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
        precision = _inside(x, y, _radii(y, self.k)).double().mean().item()
        recall = _inside(y, x, _radii(x, self.k)).double().mean().item()
        return Report(dict(zip(values, (precision, recall), strict=True)), settings)


def _squared_distances(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(m, d), (n, d)  ->  (m, n) squared distances by products, and what they may be off by."""
    lengths = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return torch.addmm(lengths, x, y.T, alpha=-2), ROUNDING * lengths


def _radii(x: Tensor, k: int) -> Tensor:
    """(n, d)  ->  (n,) squared distance of each row to its k-th nearest other row."""
    radii = []
    for start in range(0, len(x), TILE):
        own = x[start : start + TILE]
        nearest, which = own.new_empty(len(own), 0), torch.empty(len(own), 0, dtype=torch.int64, device=x.device)
        for first in range(0, len(x), TILE):
            distances, _ = _squared_distances(own, x[first : first + TILE])
            distances.diagonal(start - first).fill_(torch.inf)
            columns = torch.arange(first, first + distances.shape[1], device=x.device).expand_as(distances)
            nearest, which = torch.cat([nearest, distances], 1), torch.cat([which, columns], 1)
            nearest, best = nearest.topk(min(k, nearest.shape[1]), largest=False)
            which = which.gather(1, best)
        exact = torch.stack([(own - x[neighbour]).square().sum(dim=1) for neighbour in which.T])
        radii.append(exact.amax(dim=0))
    return torch.cat(radii)


def _inside(x: Tensor, y: Tensor, radii: Tensor) -> Tensor:
    """Which rows lie within the radius of any row of the other set.

    Where products cannot tell, as with copies of an image, the difference itself decides.

    x: (m, d), y: (n, d), radii: (n,) squared  ->  (m,) bool
    """
    inside = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for start in range(0, len(x), TILE):
        own = x[start : start + TILE]
        within = inside[start : start + TILE]
        for first in range(0, len(y), TILE):
            distances, error = _squared_distances(own, y[first : first + TILE])
            beyond = distances - radii[first : first + TILE]
            within |= (beyond < -error).any(dim=1)
            unsure = (beyond.abs() <= error) & ~within[:, None]
            for pairs in unsure.nonzero().split(PAIRS):
                row, column = pairs[:, 0], pairs[:, 1] + first
                near = (own[row] - y[column]).square().sum(dim=1) <= radii[column]
                within[row[near]] = True
    return inside
