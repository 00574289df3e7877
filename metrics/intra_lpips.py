"""How different those generated images are that lie nearest to the same shot: diversity that copying cannot feign."""

import math
import statistics
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics.utilities import rank_zero_warn

from tenshot.errors import InputError
from tenshot.metrics.base import Report
from tenshot.metrics.lpips_distances import Spread, target_distances
from tenshot.metrics.lpips_metric import LPIPSMetric, LPIPSName
from tenshot.metrics.lpips_rows import RowSource, held_bytes
from tenshot.models.float32 import float32_inference

__all__ = ["IntraLPIPS"]


class IntraLPIPS(LPIPSMetric):
    """Intra-LPIPS (CDC, arXiv 2104.06820): each generated image belongs to its nearest shot; the mean LPIPS over all
    pairs of a cluster, then the mean over clusters.

    Equally near shots: the first one. The shots are no members. Clusters with less than two members have no mean: they
    are left out, with a warning, for that flatters a generator that copies few shots; ``zero_filled`` counts them as 0.
    The standard deviation, which papers print as ±, is that over clusters (n - 1).

    One pass through the trunk for each image, as long as the rows of the members fit into two gigabytes (500 at
    128 px, 1000 at 64 px); beyond that one more for those that don't.

    Args:
        features: See :class:`LPIPSMetric`.
        weights: See :class:`LPIPSMetric`.
        resize: See :class:`LPIPSMetric`.
        cap: Most members of a cluster whose pairs count, 50 in the published protocol; none for all.
        subset: Which members these are: ``random`` ones, or the ``first`` ones.
        seed: Of the random ones.
    """

    more_is_better = (True, None)

    def __init__(
        self,
        features: LPIPSName | nn.Module = "vgg",
        weights: str | None = None,
        resize: int | None = None,
        cap: int | None = 50,
        subset: Literal["random", "first"] = "random",
        seed: int = 0,
    ) -> None:
        super().__init__(features, weights, resize)
        if cap is not None and cap < 2:
            raise InputError(f"IntraLPIPS: cap is {cap}: a cluster needs two members to have a distance")
        if subset not in ("random", "first"):
            raise InputError(f"IntraLPIPS: subset is {subset!r}: choose random or first")
        self.cap, self.subset, self.seed = cap, subset, seed

    def names(self) -> tuple[str, ...]:
        """The mean over clusters and its standard deviation."""
        return f"intra_{self.kind}", f"intra_{self.kind}_std"

    def evaluate(self) -> Report:
        """The mean over clusters, and its standard deviation; NaN where no cluster has two members."""
        settings = self.settings() | {"cap": self.cap, "subset": self.subset}
        if self.subset == "random":
            settings["seed"] = self.seed
        generated, real = self.source("generated", held_bytes(self.workplace)), self.source("real")
        if generated is None or real is None:
            why = f"both sets are needed, there are {settings['n_generated']} generated, {settings['n_real']} real"
            return self._report_on([], [], settings, why)
        with float32_inference(self.workplace):
            order = self._order(len(generated))
            nearest = self._nearest(generated, order, real)[order]
            clusters = [order[nearest == target] for target in range(len(real))]
            means = [self._mean_distance(generated, members[: self.cap]) for members in clusters]
        undefined = sum(map(math.isnan, means))
        if undefined:
            rank_zero_warn(
                f"intra_{self.kind}: {undefined} of {len(means)} shots are nearest to less than two of "
                f"{len(generated)} generated images and do not count, which flatters a generator that copies the rest"
            )
        return self._report_on(means, [len(members) for members in clusters], settings, "no cluster has two members")

    def _order(self, count: int) -> Tensor:
        """The order in which images are chosen as members."""
        if self.subset == "first":
            return torch.arange(count)
        return torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))

    def _nearest(self, generated: RowSource, order: Tensor, real: RowSource) -> Tensor:
        """The nearest shot of each image, (n,). Embedded in order, so that rows are held of those chosen first."""
        mine = self.share(order)
        nearest = torch.zeros(len(generated), dtype=torch.int64)
        nearest[mine] = target_distances(generated, mine, real).argmin(dim=1)
        return self.together(nearest)

    def _mean_distance(self, generated: RowSource, members: Tensor) -> float:
        """Over all pairs of members; NaN if there are none."""
        spread = Spread()
        for some in generated.batches(self.share(members)):
            spread.add(generated.rows(some))
        return spread.mean_distance(self.together)

    def _report_on(self, means: list[float], sizes: list[int], settings: dict, why: str) -> Report:
        defined = [mean for mean in means if not math.isnan(mean)]
        std = statistics.stdev(defined) if len(defined) > 1 else math.nan
        details = {
            "cluster_means": [None if math.isnan(mean) else mean for mean in means],
            "cluster_sizes": sizes,
            "n_undefined": len(means) - len(defined),
            "sem": std / math.sqrt(len(defined)) if len(defined) > 1 else None,
            "zero_filled": sum(defined) / len(means) if means else None,
        }
        if len(defined) < 2:
            details["why"] = why if not defined else "one cluster alone has two members: no standard deviation"
        mean = statistics.fmean(defined) if defined else math.nan
        return Report(dict(zip(self.names(), (mean, std), strict=True)), settings, details)
