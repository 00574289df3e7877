"""Whether images move evenly along a path between latents, or stand still and jump."""

from typing import ClassVar

import torch
from torch import Tensor

from tenshot.metrics.base import Report
from tenshot.metrics.latent_paths import interpolate
from tenshot.metrics.path_metric import PathMetric, step_distances
from tenshot.models.features.embedding import Rows, distances

__all__ = ["PathUniformity"]

SEGMENTS = 10


class PathUniformity(PathMetric):
    """Path uniformity (MixDL, arXiv 2111.11672): LPIPS of ten equal steps between two latents, over the step's square.

    ``path_lpips`` is the mean over steps, then over paths; ``path_lpips_std`` the mean over paths of the standard
    deviation (n - 1) of its ten steps: low where the way is smooth, high where it is a staircase; ``path_lpips_ends``
    the distance of the two ends over the same square. A generator that makes always the same image is smooth: read
    the second with the third. Published numbers are of 5000 paths in w.

    Args:
        features: See :class:`PathMetric`.
        weights: See :class:`PathMetric`.
        resize: See :class:`PathMetric`.
        space: ``w`` goes straight, ``z`` along a great circle.
    """

    images_per_path: ClassVar[int] = SEGMENTS + 1
    headlines = 3
    more_is_better = (None, False, True)

    def latents(self, first: Tensor, second: Tensor, position: Tensor) -> Tensor:
        """Eleven points in equal steps, wherever the position: (N, D), (N, D)  ->  (N, 11, D)"""
        t = torch.linspace(0, 1, self.images_per_path, dtype=torch.float64).to(first)
        return interpolate(first[:, None], second[:, None], t, self.space)

    def measure(self, rows: Rows) -> Tensor:
        """Ten steps, then the ends: (N, 11)."""
        ends = distances([tap[:, 0] for tap in rows], [tap[:, -1] for tap in rows])
        return torch.cat([step_distances(rows), ends.cpu().double()[:, None]], dim=1) * SEGMENTS**2

    def names(self) -> tuple[str, ...]:
        """Mean, spread, and distance of the ends."""
        return f"path_{self.kind}", f"path_{self.kind}_std", f"path_{self.kind}_ends"

    def evaluate(self) -> Report:
        """All three; NaN for no path."""
        names, found = self.names(), self.rows("paths")
        settings = self.settings() | {"segments": SEGMENTS}
        if found is None:
            return Report(dict.fromkeys(names, float("nan")), settings, {"why": "there is no path"})
        steps, ends = found[:, :-1], found[:, -1]
        spread = steps.std(dim=1)
        values = (steps.mean(), spread.mean(), ends.mean())
        details = {
            "mean_of_each_step": steps.mean(dim=0).tolist(),
            "std_over_paths": {"mean": _std(steps.mean(dim=1)), "std": _std(spread), "ends": _std(ends)},
        }
        return Report(dict(zip(names, map(float, values), strict=True)), settings, details)


def _std(values: Tensor) -> float | None:
    return float(values.std()) if len(values) > 1 else None
