"""Kernel distance: KID with the Inception it was published with, the same distance with any other features."""

import numpy as np
import torch
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import FeatureName, InceptionFeatures

__all__ = ["KernelDistance"]

TILE = 4096  # rows of a kernel matrix that are in memory at a time


class KernelDistance(FeatureMetric):
    """Unbiased squared MMD with the kernel (a·b/d + 1)³ (arXiv 1801.01401), in float64: right for small sets too.

    ``kid`` with the published Inception, else ``kd_<features>``; it may be negative. Where both sets have
    ``subset_size`` images: mean and standard deviation (not error) over random subsets, drawn as torch-fidelity
    draws them. Where one has fewer: all pairs of images at once, and the standard error by bootstrap.

    Args:
        features: ``inception``, ``vgg16``, ``random``, or any module that returns rows (N, d).
        weights: Weight file of a named network; none for the public one.
        subsets: Number of subsets.
        subset_size: Images of each set in a subset.
        resamples: Of the bootstrap.
        seed: Of subsets and resamples.
    """

    headlines = 2
    more_is_better = (False, None)

    def __init__(
        self,
        features: FeatureName | nn.Module = "inception",
        weights: str | None = None,
        subsets: int = 100,
        subset_size: int = 1000,
        resamples: int = 200,
        seed: int = 2020,
    ) -> None:
        super().__init__(features, weights)
        if subset_size < 2:
            raise InputError(f"KernelDistance: subset_size is {subset_size}: choose 2 or more")
        self.subsets, self.subset_size, self.resamples, self.seed = subsets, subset_size, resamples, seed

    def names(self) -> tuple[str, ...]:
        """The distance and its spread."""
        name = "kid" if self.features.is_published(InceptionFeatures) else f"kd_{self.features.name}"
        return name, f"{name}_std"

    def evaluate(self) -> Report:
        """The distance and its spread; NaN for sets of less than two images."""
        names = self.names()
        settings = self.counts() | self.features.settings() | {"seed": self.seed}
        generated, real = self.rows("generated"), self.rows("real")
        if generated is None or real is None or min(len(generated), len(real)) < 2:
            made, given = settings["n_generated"], settings["n_real"]
            why = f"two images of each set are needed, there are {made} generated, {given} real"
            return Report(dict.fromkeys(names, float("nan")), settings, {"why": why})
        x, y = (rows.to(self.worker, torch.float64) for rows in (generated, real))
        if min(len(x), len(y)) < self.subset_size:
            settings |= {"estimate": "all pairs", "resamples": self.resamples}
            value, spread = _all_pairs(x, y, self.resamples, self.seed)
        else:
            settings |= {"estimate": "subsets", "subsets": self.subsets, "subset_size": self.subset_size}
            value, spread = _subsets(x, y, self.subsets, self.subset_size, self.seed)
        return Report(dict(zip(names, (value, spread), strict=True)), settings)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(m, d), (n, d)  ->  (m, n)"""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _subsets(x: Tensor, y: Tensor, subsets: int, size: int, seed: int) -> tuple[float, float]:
    """Mean and standard deviation over subsets of both sets."""
    rng = np.random.RandomState(seed)
    drawn = [[torch.from_numpy(rng.choice(len(rows), size, replace=False)) for rows in (x, y)] for _ in range(subsets)]
    if len(x) ** 2 + len(x) * len(y) + len(y) ** 2 <= 3 * subsets * size**2:  # all kernels once are less work
        a, b = (x.new_zeros(subsets, len(rows)) for rows in (x, y))
        for number, (i, j) in enumerate(drawn):
            a[number, i], b[number, j] = 1, 1
        results = _distances(x, y, a, b)
    else:
        once = x.new_ones(1, size)
        results = torch.cat([_distances(x[i], y[j], once, once) for i, j in drawn])
    return results.mean().item(), results.std(correction=0).item()


def _all_pairs(x: Tensor, y: Tensor, resamples: int, seed: int) -> tuple[float, float]:
    """The estimate from all pairs, and the standard deviation of the same over bootstrap resamples.

    Pairs of an image with itself stay left out of a resample, as of the estimate: k(x, x) is no draw of two images.
    """
    rng = np.random.RandomState(seed)
    a, b = (
        torch.from_numpy(np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), resamples)])).to(x)
        for n in (len(x), len(y))
    )
    results = _distances(x, y, a, b)
    drawn = results[1:][results[1:].isfinite()]  # of two images one may have been drawn twice: no pair
    return results[0].item(), drawn.std(correction=0).item() if len(drawn) else float("nan")


def _distances(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The estimate for each of R samples of the sets, told by how often each image is in them.

    x: (m, d), y: (n, d), a: (R, m), b: (R, n)  ->  (R,)
    """
    return _mean_kernel(x, x, a, a) + _mean_kernel(y, y, b, b) - 2 * _mean_kernel(x, y, a, b)


def _mean_kernel(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The mean of the kernel over all pairs of different images, for each of R samples.

    x: (m, d), y: (n, d), a: (R, m), b: (R, n)  ->  (R,)
    """
    total, within = x.new_zeros(len(a)), x is y
    for start in range(0, len(x), TILE):
        part = slice(start, start + TILE)
        kernel = _kernel(x[part], y)
        if within:
            kernel.diagonal(start).zero_()
        total += ((a[:, part] @ kernel) * b).sum(dim=1)
    pairs = a.sum(dim=1) * b.sum(dim=1)
    return total / (pairs - a.square().sum(dim=1) if within else pairs)
