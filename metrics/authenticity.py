"""Authenticity (arXiv 2102.08921): the share of samples that are no copies of training images, by neighbours."""

import torch
from torch import nn

from tenshot.metrics import neighbours
from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import FeatureName

__all__ = ["Authenticity"]


class Authenticity(FeatureMetric):
    """The share of samples that are farther from their nearest shot than that shot from its nearest other shot (Alaa et
    al. 2022; a hundredth of AuthPct). Copies only: 0.

    ``authenticity_<features>``. Few shots lie far apart: a sample may be much like one and no copy, and count as one
    here. So ten shots tell methods apart, but say little by themselves. Mirrored shots are not shots.

    Args:
        features: ``inception``, ``vgg16``, ``random``, or any module that returns rows (N, d).
        weights: Weight file of a named network; none for the public one.
    """

    needs = ("shots",)
    more_is_better = (True,)

    def __init__(self, features: FeatureName | nn.Module = "inception", weights: str | None = None) -> None:
        super().__init__(features, weights)

    def names(self) -> tuple[str, ...]:
        """The share."""
        return (f"authenticity_{self.features.name}",)

    def evaluate(self) -> Report:
        """The share; NaN where there are no samples, or less than two shots."""
        (name,), settings = self.names(), self.counts() | self.features.settings()
        generated, shots = self.rows("generated"), self.rows("real")
        if generated is None or shots is None or len(shots) < 2:
            made, given = settings["n_generated"], settings["n_real"]
            why = f"two shots and a sample are needed, there are {given} shots, {made} generated"
            return Report({name: float("nan")}, settings, {"why": why})
        x, y = (rows.to(self.worker, torch.float64) for rows in (generated, shots))
        centre = y.mean(dim=0)  # near the origin products round less
        x, y = x - centre, y - centre
        to_shot, which = neighbours.nearest(x, y)
        between, _ = neighbours.nearest(y, y)
        return Report({name: (to_shot > between[which[:, 0]]).double().mean().item()}, settings)
