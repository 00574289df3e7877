"""How different images are that were drawn from the same condition."""

import math

import torch
from torch import Tensor, nn

from tenshot.metrics.base import Report
from tenshot.metrics.lpips_distances import Spread
from tenshot.metrics.lpips_metric import LPIPSMetric, LPIPSName
from tenshot.models.float32 import float32_inference

__all__ = ["DiversityLPIPS"]


class DiversityLPIPS(LPIPSMetric):
    """The mean LPIPS over all pairs of images of one condition, then the mean over conditions (BicycleGAN,
    arXiv 1711.11586): 0 where the condition alone decides what is drawn.

    Conditions of a single image have no mean and are left out.

    Args:
        features: See :class:`LPIPSMetric`.
        weights: See :class:`LPIPSMetric`.
        resize: See :class:`LPIPSMetric`.
    """

    needs = ("pair", "repeats")
    more_is_better = (True,)

    def __init__(
        self, features: LPIPSName | nn.Module = "vgg", weights: str | None = None, resize: int | None = None
    ) -> None:
        super().__init__(features, weights, resize)
        self.add_rows("pairs")

    def update(self, images: Tensor, pair: Tensor) -> None:  # type: ignore[override]
        """Add images.

        Args:
            images: (N, 3, H, W), float in [-1, 1] or uint8; or (N, d) features, for a module of the user.
            pair: Number of the pair whose condition each was drawn from, int64 (N,).
        """
        super().update(images)
        if len(images):
            self.append("pairs", pair)

    def names(self) -> tuple[str, ...]:
        """The mean over conditions."""
        return (f"diversity_{self.kind}",)

    def evaluate(self) -> Report:
        """It, and how many images there were of each condition; NaN where no condition has two."""
        (name,), settings = self.names(), self.settings()
        images, pairs = self.source("generated"), self.rows("pairs")
        if images is None or pairs is None:
            return Report({name: math.nan}, settings, {"why": "there is no image"})
        numbers, of_number = pairs.unique(return_inverse=True)
        members = [(of_number == place).nonzero().flatten() for place in range(len(numbers))]
        members = [some for some in members if len(some) > 1]
        settings |= {"conditions": len(members)}
        if not members:
            return Report({name: math.nan}, settings, {"why": "each condition has one image: several are needed"})
        means = torch.zeros(len(members), dtype=torch.float64)
        with float32_inference(self.workplace):
            for group in self.share(torch.arange(len(members))).tolist():
                spread = Spread()
                for some in images.batches(members[group]):
                    spread.add(images.rows(some))
                means[group] = spread.mean_distance()
        means = self.together(means)
        settings["images_per_condition"] = {"fewest": min(map(len, members)), "most": max(map(len, members))}
        return Report({name: float(means.mean())}, settings, {"means": means.tolist()})
