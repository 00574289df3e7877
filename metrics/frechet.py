"""Fréchet distance: FID with the Inception it was published with, the same distance with any other features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.utilities.distributed import gather_all_tensors

from tenshot.distributed.gathering import gather_objects
from tenshot.metrics.base import Real, Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import FeatureName, InceptionFeatures

__all__ = ["FrechetDistance"]


class FrechetDistance(FeatureMetric):
    """|m1 - m2|² + tr S1 + tr S2 - 2 tr (S1 S2)^½ of the features' means and covariances, in float64.

    ``fid`` with the published Inception, else ``fd_<features>``. It falls with the number of images: never compare
    results of different numbers.

    A set is kept as rows while it has at most as many as there are features: they take less room than the matrix of
    their products, and (S1 S2)^½ is better conditioned by them. A larger set is kept as the sum of these products.

    Args:
        features: ``inception``, ``vgg16``, ``random``, or any module that returns rows (N, d).
        weights: Weight file of a named network; none for the public one.
    """

    more_is_better = (False,)

    def __init__(self, features: FeatureName | nn.Module = "inception", weights: str | None = None) -> None:
        super().__init__(features, weights)
        self.add_sum("generated_products", torch.zeros(0, 0, dtype=torch.float64))
        self.add_sum("real_products", torch.zeros(0, 0, dtype=torch.float64))

    def update(self, images: Tensor, real: Real = False) -> None:
        """Add images, (N, 3, H, W), float in [-1, 1] or uint8; or (N, d) features, for a module of the user."""
        super().update(images, real)
        which = "real" if real else "generated"
        held: list[Tensor] = getattr(self, which)
        if held and sum(map(len, held)) > held[0].shape[1]:
            self._fold(which)

    def _fold(self, which: str) -> None:
        """Turn a set's rows x into the sum of (1, x)ᵀ (1, x), which holds their number, sum and products."""
        rows = self.rows(which)
        if rows is not None:
            rows = rows.to(self.worker, torch.float64)
            rows = torch.cat([rows.new_ones(len(rows), 1), rows], dim=1)
            products, more = getattr(self, f"{which}_products"), (rows.T @ rows).cpu()
            setattr(self, f"{which}_products", products + more if products.numel() else more)
            setattr(self, which, [])

    def _sync_dist(self, dist_sync_fn: Callable = gather_all_tensors, process_group: Any | None = None) -> None:
        group = process_group or self.process_group
        for which in ("generated", "real"):
            rows, folded = self.rows(which), getattr(self, f"{which}_products").numel() > 0
            held = gather_objects((0, 0, folded) if rows is None else (*rows.shape, folded), group)
            if any(row[2] for row in held) or sum(row[0] for row in held) > max(row[1] for row in held):
                self._fold(which)
        super()._sync_dist(dist_sync_fn, group)

    def _moments(self, which: str) -> "Moments | None":
        if getattr(self, f"{which}_products").numel():
            self._fold(which)
            return Moments.of_products(getattr(self, f"{which}_products").to(self.worker))
        rows = self.rows(which)
        return None if rows is None else Moments.of_rows(rows.to(self.worker, torch.float64))

    def names(self) -> tuple[str, ...]:
        """The distance."""
        return ("fid" if self.features.is_published(InceptionFeatures) else f"fd_{self.features.name}",)

    def evaluate(self) -> Report:
        """The distance; NaN for sets of less than two images."""
        (name,) = self.names()
        generated, real = self._moments("generated"), self._moments("real")
        count = {"n_generated": generated.count if generated else 0, "n_real": real.count if real else 0}
        settings = count | self.features.settings()
        if generated is None or real is None or min(count.values()) < 2:
            made, given = count.values()
            why = f"two images of each set are needed, there are {made} generated, {given} real"
            return Report({name: float("nan")}, settings, {"why": why})
        means = (generated.mean - real.mean).square().sum().item()
        raw = means + generated.trace + real.trace - 2 * _trace_of_root(generated, real)
        # rounding makes the distance of equal sets -1e-12
        return Report({name: max(0.0, raw)}, settings, {"unclamped": raw, "distance_of_means": means})


@dataclass(frozen=True)
class Moments:
    """Mean and covariance S of a set; a small set's as rows r with rᵀ r = S.

    Args:
        count: Number of rows n.
        mean: (d,).
        rows: (n, d), centred, over √(n - 1); none for a large set.
        covariance: (d, d); none for a small set.
    """

    count: int
    mean: Tensor
    rows: Tensor | None = None
    covariance: Tensor | None = None

    @classmethod
    def of_rows(cls, rows: Tensor) -> "Moments":
        """rows: (n, d) float64."""
        mean = rows.mean(dim=0)
        return cls(len(rows), mean, rows=(rows - mean) / max(1, len(rows) - 1) ** 0.5)

    @classmethod
    def of_products(cls, products: Tensor) -> "Moments":
        """products: (1 + d, 1 + d) float64, the sum of (1, x)ᵀ (1, x)."""
        count = round(products[0, 0].item())
        mean = products[0, 1:] / count
        return cls(count, mean, covariance=(products[1:, 1:] - count * torch.outer(mean, mean)) / max(1, count - 1))

    @property
    def trace(self) -> float:
        """tr S."""
        if self.covariance is not None:
            return self.covariance.trace().item()
        assert self.rows is not None
        return self.rows.square().sum().item()

    def root(self) -> Tensor:
        """(r, d) r with rᵀ r = S."""
        if self.rows is not None:
            return self.rows
        assert self.covariance is not None
        values, vectors = torch.linalg.eigh(self.covariance)
        return values.clamp(min=0).sqrt()[:, None] * vectors.T


def _trace_of_root(a: Moments, b: Moments) -> float:
    """tr (S1 S2)^½: the sum of the singular values of r1 r2ᵀ, so of the roots of the eigenvalues of r1 S2 r1ᵀ."""
    few, many = sorted((a, b), key=lambda moments: moments.count)
    root = few.root()
    if many.rows is not None:
        return torch.linalg.svdvals(root @ many.rows.T).sum().item()
    assert many.covariance is not None
    values = torch.linalg.eigvalsh(root @ many.covariance @ root.T)[
        1 - few.count :
    ]  # others are 0, and their roots not
    return values.clamp(min=0).sqrt().sum().item()
