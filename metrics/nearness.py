"""Nearness: whether samples are as far from the shots as the shots are from each other."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tenshot.metrics import neighbours
from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import FeatureName

__all__ = ["Nearness"]

ROUNDING = 1e-9


class Nearness(FeatureMetric):
    """The probability that a sample is nearer to the shots than a shot is to the others; it needs no other images.

    Leave a shot out. A new image of the domain and that shot are then exchangeable: either is as likely to be the
    nearer one to the shots that are left, mirrored ones included. ``nearness_<features>`` is the share of pairs of a
    sample and a left-out shot in which the sample is nearer, a tie as a half: 0.5 for new images of the domain on
    average over shots (whatever the domain and the features), more for copies (1 - 1 / 2n where each is one of n
    shots), less for images that have not arrived in the domain yet. It is the Mann-Whitney statistic by which Meehan et
    al. (arXiv 2004.05675, section 3) compare distances of generated and of held-out images, here with the shots
    themselves held out in turn.

    ``nearness_gap_<features>`` is its distance from 0.5: the step of an adaptation where it is least lies between
    images that are not yet of the domain and images that are copies.

    Of ten shots the statistic is coarse: for new images its standard deviation over shots is 0.11 to 0.14 (of normal
    numbers, of SyntheticFaces). The shots of a run stay, so its steps can be compared more closely than runs.

    Args:
        features: ``inception``, ``vgg16``, ``efficientnet_lite0``, ``random``, or any module that takes images and
            returns rows (N, d).
        weights: Weight file of a named network; none for the public one.
    """

    needs = ("shots",)
    more_is_better = (None, False)
    mirrors = True
    copying_rises = True  # shots may be so unlike each other that anything is nearer to one of them, copy or not

    def __init__(self, features: FeatureName | nn.Module = "inception", weights: str | None = None) -> None:
        super().__init__(features, weights)

    def names(self) -> tuple[str, ...]:
        """The probability, and its distance from 0.5."""
        return f"nearness_{self.features.name}", f"nearness_gap_{self.features.name}"

    @classmethod
    def copying_limit(cls, settings: Mapping[str, Any]) -> float | None:
        """Two standard deviations above 0.5, of n shots and m samples: 0.77 for 10 and 100.

        The variance of a Mann-Whitney statistic is at most about 1 / 12n + 1 / 12m. Leaving the shots out in turn
        makes its first term twice as large: simulated, a standard deviation of 0.24 to 0.41 over the root of n. Of less
        than five shots even copies do not exceed the limit, so there is none.
        """
        n, m = settings["n_real"], settings["n_generated"]
        if min(n, m) < 1:
            return None
        limit = 0.5 + 2 * math.sqrt(1 / (6 * n) + 1 / (12 * m))
        return limit if limit < 1 - 1 / (2 * n) else None

    def evaluate(self) -> Report:
        """Both; NaN where there are no samples, or less than two shots."""
        settings = self.counts() | self.features.settings() | {"mirrored": True}
        held = [self.rows(which) for which in ("generated", "real", "real_mirrored")]
        if any(rows is None for rows in held) or settings["n_real"] < 2:
            made, given = settings["n_generated"], settings["n_real"]
            why = f"two shots and a sample are needed, there are {given} shots, {made} generated"
            return Report(dict.fromkeys(self.names(), float("nan")), settings, {"why": why})
        x, shots, mirrored = (rows.to(self.worker, torch.float64) for rows in held if rows is not None)
        value = nearness(x, shots, mirrored)
        return Report(dict(zip(self.names(), (value, abs(value - 0.5)), strict=True)), settings)


def nearness(x: Tensor, shots: Tensor, mirrored: Tensor) -> float:
    """The statistic of rows of features.

    x: (m, d), shots: (n, d), mirrored: (n, d) of the same shots, float64, n >= 2
    """
    centre = shots.mean(dim=0)  # near the origin products round less
    n, both = len(shots), torch.cat([shots, mirrored]) - centre
    number = torch.arange(n, device=x.device)
    first, nearest_shot, second = _two_nearest(x - centre, both)
    left_out, own = number[:, None], number == nearest_shot[:, None]  # (n, 1), (m, n)
    to_others = torch.where(own, second[:, None], first[:, None])  # (m, n): without shot j
    distances, columns = neighbours.nearest(both[:n], both, min(3, 2 * n))
    others = torch.where(columns % n == left_out, torch.inf, distances).amin(dim=1)  # (n,)
    differ = to_others - others
    tied = differ.abs() <= ROUNDING * others  # a mirrored copy is as far as the shot itself, but for rounding
    return float(torch.where(tied, 0.5, (differ < 0).double()).mean())


def _two_nearest(x: Tensor, both: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distance to the nearest shot or its mirror image, which shot it is, and that to the next shot: (m,)."""
    n = len(both) // 2
    distances, columns = neighbours.nearest(x, both, min(3, 2 * n))
    nearest_shot = columns[:, 0] % n
    second = torch.where(columns % n == nearest_shot[:, None], torch.inf, distances).amin(dim=1)
    return distances[:, 0], nearest_shot, second
