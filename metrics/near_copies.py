"""The share of samples that are nearer to a training image, or its mirror image, than true images are."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tenshot.metrics import neighbours
from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import FeatureName

__all__ = ["NearCopies"]

ONE_IN = 100
CHANCE = 0.001
"""That a set of new images of the domain is taken for one with copies."""


class NearCopies(FeatureMetric):
    """The share of samples nearer to a shot or its mirror image than all but one in a hundred reference images.

    ``near_copies_<features>``, by the distance of features; about 0.01 for new images of the domain, 1 for copies.
    Mirrored shots count, for generators trained with flips copy them too. The limit is the distance below which one in
    a hundred reference images lies (between two of them, in proportion), so a hundred are needed; they must not contain
    the shots. ``details`` has the limit.

    Args:
        features: ``inception``, ``vgg16``, ``random``, or any module that takes images and returns rows (N, d).
        weights: Weight file of a named network; none for the public one.
    """

    needs = ("shots", "reference")
    more_is_better = (False,)
    mirrors = True

    def __init__(self, features: FeatureName | nn.Module = "inception", weights: str | None = None) -> None:
        super().__init__(features, weights)

    def names(self) -> tuple[str, ...]:
        """The share."""
        return (f"near_copies_{self.features.name}",)

    @classmethod
    def copying_limit(cls, settings: Mapping[str, Any]) -> float | None:
        """The share that m new images of the domain exceed once in a thousand times: 0.065 for 100.

        The limit of distance is at the place r = 1 + (R - 1) / 100 of R reference images in order, so whatever the
        distances are, the share of all images below it has the distribution Beta(r, R + 1 - r), and the number of
        copies among m images the beta-binomial one. The limit lies between two numbers of images.
        """
        m, references = settings["n_generated"], settings["n_reference"]
        if m < 1 or references < ONE_IN:
            return None
        r = 1 + (references - 1) / ONE_IN
        rest, count = 1.0, -1
        while rest > CHANCE:
            count += 1
            rest -= math.exp(_log_beta_binomial(count, m, r, references + 1 - r))
        return (count + 0.5) / m

    def evaluate(self) -> Report:
        """The share; NaN where there are no samples, no shots or less than a hundred reference images."""
        (name,), settings = self.names(), self.counts() | self.features.settings()
        settings |= {"one_in": ONE_IN, "mirrored": True}
        held = [self.rows(which) for which in ("generated", "real_shots", "real_mirrored", "real_reference")]
        if settings["n_reference"] < ONE_IN or any(rows is None for rows in held):
            why = (
                f"samples, shots and {ONE_IN} reference images are needed, there are {settings['n_generated']} "
                f"generated, {settings['n_shots']} shots, {settings['n_reference']} reference images"
            )
            return Report({name: float("nan")}, settings, {"why": why})
        x, shots, mirrored, real = (rows.to(self.worker, torch.float64) for rows in held if rows is not None)
        centre = real.mean(dim=0)  # near the origin products round less
        both = torch.cat([shots, mirrored]) - centre
        made, true = (neighbours.nearest(rows - centre, both)[0][:, 0].sqrt() for rows in (x, real))
        limit = true.quantile(1 / ONE_IN)
        return Report({name: (made < limit).double().mean().item()}, settings, {"limit": limit.item()})


def _log_beta_binomial(k: int, m: int, a: float, b: float) -> float:
    """Log of the probability of k successes in m trials whose chance has the distribution Beta(a, b)."""

    def beta(x: float, y: float) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    return math.log(math.comb(m, k)) + beta(k + a, m - k + b) - beta(a, b)
