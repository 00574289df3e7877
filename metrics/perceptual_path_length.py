"""How far images move for a small step of the latent."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.metrics.base import Report
from tenshot.metrics.latent_paths import Space, interpolate
from tenshot.metrics.lpips_metric import LPIPSName
from tenshot.metrics.path_metric import PathMetric, step_distances
from tenshot.models.features.embedding import Rows

__all__ = ["PerceptualPathLength"]

TAIL = 0.01


class PerceptualPathLength(PathMetric):
    """Perceptual path length (StyleGAN, arXiv 1812.04948, and StyleGAN2, arXiv 1912.04958): the mean over pairs of
    latents of LPIPS(G(t), G(t + epsilon)) / epsilon², without the 1 % at either end.

    ``ppl_wend`` and so on with the published VGG16, else ``path_dist_random_wend``. There is no crop to the face, so
    ``ppl_wend`` is what NVIDIA's code calls ``ppl2_wend``. Published numbers are of 50,000 pairs.

    Args:
        features: See :class:`tenshot.metrics.path_metric.PathMetric`.
        weights: See there.
        resize: See there.
        space: ``w`` goes straight, ``z`` along a great circle.
        sampling: Where on the way: ``end`` at t = 0, ``full`` anywhere.
        epsilon: The step.
    """

    images_per_path: ClassVar[int] = 2
    more_is_better = (False,)

    def __init__(
        self,
        features: LPIPSName | nn.Module = "vgg",
        weights: str | None = None,
        resize: int | None = None,
        space: Space = "w",
        sampling: Literal["end", "full"] = "end",
        epsilon: float = 1e-4,
    ) -> None:
        super().__init__(features, weights, resize, space)
        if sampling not in ("end", "full"):
            raise InputError(f"PerceptualPathLength: sampling is {sampling!r}: choose end or full")
        if not 0 < epsilon <= 1:
            raise InputError(f"PerceptualPathLength: epsilon is {epsilon}: choose a number in (0, 1]")
        self.sampling, self.epsilon = sampling, epsilon

    def latents(self, first: Tensor, second: Tensor, position: Tensor) -> Tensor:
        """Both ends of each step: (N, D), (N, D), (N,)  ->  (N, 2, D)"""
        start = position.to(first) if self.sampling == "full" else torch.zeros_like(first[:, 0])
        ends = [interpolate(first, second, t, self.space) for t in (start, start + self.epsilon)]
        return torch.stack(ends, dim=1)

    def measure(self, rows: Rows) -> Tensor:
        """The distance of the two images, over epsilon²: (N,)."""
        return step_distances(rows)[:, 0] / self.epsilon**2

    def names(self) -> tuple[str, ...]:
        """The length."""
        kind = "ppl" if self.kind == "lpips" else f"path_{self.kind}"
        return (f"{kind}_{self.space}{self.sampling}",)

    def evaluate(self) -> Report:
        """The mean of what lies between the quantiles of 1 % and 99 %; NaN for no path."""
        (name,), lengths = self.names(), self.rows("paths")
        settings = self.settings() | {"sampling": self.sampling, "epsilon": self.epsilon}
        if lengths is None:
            return Report({name: float("nan")}, settings, {"why": "there is no path"})
        low = lengths.quantile(TAIL, interpolation="lower")
        high = lengths.quantile(1 - TAIL, interpolation="higher")
        kept = lengths[(lengths >= low) & (lengths <= high)]
        details = {"untrimmed": float(lengths.mean()), "std": float(kept.std()) if len(kept) > 1 else None}
        return Report({name: float(kept.mean())}, settings, details)
