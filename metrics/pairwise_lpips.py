"""How different generated images are from one another."""

import torch

from tenshot.metrics.base import Report
from tenshot.metrics.lpips_distances import Spread
from tenshot.metrics.lpips_metric import LPIPSMetric
from tenshot.models.float32 import float32_inference

__all__ = ["PairwiseLPIPS"]


class PairwiseLPIPS(LPIPSMetric):
    """The mean LPIPS over all pairs of generated images: 0 where they are all the same.

    One pass through the trunk for each image, and one row in memory, however many pairs there are.
    """

    needs = ()
    more_is_better = (True,)

    def names(self) -> tuple[str, ...]:
        """The mean."""
        return (f"pairwise_{self.kind}",)

    def evaluate(self) -> Report:
        """The mean; NaN for less than two images."""
        (name,), settings = self.names(), self.settings()
        images = self.source("generated")
        if images is None or len(images) < 2:
            why = f"two images are needed, there are {settings['n_generated']}"
            return Report({name: float("nan")}, settings, {"why": why})
        spread = Spread()
        with float32_inference(self.workplace):
            for some in images.batches(self.share(torch.arange(len(images)))):
                spread.add(images.rows(some))
            return Report({name: spread.mean_distance(self.together)}, settings)
