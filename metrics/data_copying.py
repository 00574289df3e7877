"""C_T (arXiv 2004.05675): whether samples are nearer to training images than images of the same domain are."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from tenshot.metrics import neighbours
from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import FeatureName

__all__ = ["DataCopying"]

SHOTS_PER_CELL, MOST_CELLS = 100, 50
LEAST_SAMPLES = 20  # more than these in a cell, as in the authors' scripts (tau = 20 / m)


class DataCopying(FeatureMetric):
    """A z-score: far below 0 for copies, about 0 for new images of the domain, far above 0 for images farther from the
    shots than those of the domain (Meehan et al. 2020).

    Within a cell of feature space, the distances of m samples and of n reference images to their nearest shot of the
    cell are compared by the Mann-Whitney test: U counts the pairs in which the sample is farther, a tie as a half, and
    Z = (U - mn/2) / sqrt(mn (m + n + 1) / 12). ``ct_<features>`` is the mean of Z over cells, weighted by their
    reference images. Cells are those of k-means of the shots. Few shots cannot be divided: there is one cell for each
    hundred, at least one (the paper had 50 of 60,000), so that of ten shots C_T is Z itself. Cells with 20 samples or
    less do not count, nor do those without reference images.

    The reference set must not contain the shots. Z grows with the numbers of images: compare results of equal ones.

    Args:
        features: ``inception``, ``vgg16``, ``random``, or any module that returns rows (N, d).
        weights: Weight file of a named network; none for the public one.
        seed: Of k-means.
    """

    needs = ("shots", "reference")
    more_is_better = (None,)

    def __init__(
        self, features: FeatureName | nn.Module = "inception", weights: str | None = None, seed: int = 0
    ) -> None:
        super().__init__(features, weights)
        self.seed = seed

    def names(self) -> tuple[str, ...]:
        """The weighted mean of Z."""
        return (f"ct_{self.features.name}",)

    def evaluate(self) -> Report:
        """C_T; NaN where no cell has reference images and more than 20 samples."""
        (name,), settings = self.names(), self.counts() | self.features.settings()
        sets = [self.rows(which) for which in self.sets]
        shots = settings["n_shots"]
        cells = min(MOST_CELLS, max(1, shots // SHOTS_PER_CELL))
        settings |= {"cells": cells, "seed": self.seed}
        scores: list[float] = []
        sizes: list[int] = []
        if all(rows is not None for rows in sets):
            x, train, test = (rows.to(self.worker, torch.float64) for rows in sets if rows is not None)
            centre = train.mean(dim=0)  # near the origin products round less
            x, train, test = x - centre, train - centre, test - centre
            centres = k_means(train, cells, self.seed)
            of_x, of_train, of_test = (neighbours.nearest(rows, centres)[1][:, 0] for rows in (x, train, test))
            for cell in range(len(centres)):
                own = train[of_train == cell]
                made, held_out = x[of_x == cell], test[of_test == cell]
                if len(own) and len(held_out) and len(made) > LEAST_SAMPLES:
                    scores.append(z_score(*(neighbours.nearest(rows, own)[0][:, 0] for rows in (made, held_out))))
                    sizes.append(len(held_out))
        if not scores:
            why = (
                f"no cell has shots, reference images and more than {LEAST_SAMPLES} samples: there are {shots} shots, "
                f"{settings['n_reference']} reference images, {settings['n_generated']} generated"
            )
            return Report({name: math.nan}, settings, {"why": why})
        value = math.fsum(score * size for score, size in zip(scores, sizes, strict=True)) / sum(sizes)
        return Report({name: value}, settings, {"z_of_cells": scores, "reference_of_cells": sizes})


def z_score(made: Tensor, held_out: Tensor) -> float:
    """Of the Mann-Whitney test: how many standard deviations more pairs have the sample farther than half of them.

    made: (m,), held_out: (n,) distances
    """
    m, n = len(made), len(held_out)
    held_out = held_out.sort().values
    nearer = (torch.searchsorted(held_out, made, right=right).sum().item() for right in (False, True))
    return (sum(nearer) / 2 - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)


def k_means(rows: Tensor, k: int, seed: int) -> Tensor:
    """Centres of clusters: Lloyd's algorithm from rows drawn far from each other (k-means++).

    rows: (n, d) float64, n >= k  ->  (k, d)
    """
    rng = np.random.RandomState(seed)
    chosen = [int(rng.randint(len(rows)))] if k > 1 else [0]
    while len(chosen) < k:
        far = neighbours.nearest(rows, rows[chosen])[0][:, 0].cpu().numpy()
        chosen.append(int(rng.choice(len(rows), p=far / far.sum() if far.any() else None)))
    centres, before = rows[chosen], None
    for _ in range(100):
        cell = neighbours.nearest(rows, centres)[1][:, 0]
        if before is not None and torch.equal(cell, before):
            break
        centres = torch.stack([rows[cell == c].mean(dim=0) if (cell == c).any() else centres[c] for c in range(k)])
        before = cell
    return centres
