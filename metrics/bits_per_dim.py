"""How many bits a diffusion model needs for an image."""

import torch
from torch import Tensor

from tenshot.diffusion import VariationalBound
from tenshot.metrics.base import ImageMetric, Report

__all__ = ["BitsPerDim"]


class BitsPerDim(ImageMetric):
    """The mean of the bounds on the negative log-likelihood that :func:`tenshot.diffusion.bits_per_dim` gives, in bits
    per dimension; its parts by step in the report.
    """

    more_is_better = (False,)
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("count", torch.tensor(0))
        for name in ("total", "squares", "prior"):
            self.add_sum(name, torch.zeros((), dtype=torch.float64))
        for name in ("vb", "x0_mse", "mse"):
            self.add_sum(name, torch.zeros(0, dtype=torch.float64))

    def update(self, bound: VariationalBound) -> None:
        """Add images: N bounds with their terms at each of T steps."""
        series = bound._asdict() | {"squares": bound.total.double().square()}
        for name, value in series.items():
            before, more = getattr(self, name), value.detach().cpu().double().sum(dim=0)
            setattr(self, name, before + more if before.shape == more.shape else more)
        self.count = self.count + len(bound.total)

    def names(self) -> tuple[str, ...]:
        """The mean."""
        return ("bits_per_dim",)

    def evaluate(self) -> Report:
        """The mean; NaN for no image."""
        count = int(self.count)
        if count == 0:
            return Report({"bits_per_dim": float("nan")}, {"n": 0}, {"why": "there is no image"})
        mean = float(self._mean("total"))
        variance = (float(self._mean("squares")) - mean**2) * count / max(1, count - 1)
        steps = {f"{name}_of_step": self._mean(name).tolist() for name in ("vb", "x0_mse", "mse")}
        parts = {"prior": float(self._mean("prior")), "std": max(0.0, variance) ** 0.5 if count > 1 else None}
        return Report({"bits_per_dim": mean}, {"n": count, "steps": len(steps["vb_of_step"])}, parts | steps)

    def _mean(self, name: str) -> Tensor:
        return getattr(self, name) / self.count
