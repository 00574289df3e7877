"""How near generated images come to the shots: whether they are copies, and whether every shot is reached."""

import torch
from einops import reduce
from torch import nn

from tenshot.errors import InputError
from tenshot.metrics.base import Report
from tenshot.metrics.lpips_distances import target_distances
from tenshot.metrics.lpips_metric import LPIPSFeatures, LPIPSMetric, LPIPSName
from tenshot.metrics.lpips_rows import EmbeddedImages
from tenshot.models.features.embedding import EmbeddingNetwork
from tenshot.models.float32 import float32_inference

__all__ = ["NearestLPIPS"]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)


class NearestLPIPS(LPIPSMetric):
    """Nearest-LPIPS (DDPM-PA, arXiv 2211.03264): the mean LPIPS of generated images to their nearest shot. Low means
    copying; the 5 % quantile tells sooner than the mean.

    ``…_coverage`` is the other direction, the mean of shots to their nearest generated image: low means that all
    shots are reached. ``…_copies`` is the share of generated images nearer to a shot than ``threshold``.
    ``…_modes`` is how many shots are the nearest one of at least one generated image (MixDL, arXiv 2111.11672, counts
    modes so): few mean that the rest is forgotten.

    Args:
        features: See :class:`LPIPSMetric`.
        weights: See :class:`LPIPSMetric`.
        resize: See :class:`LPIPSMetric`.
        count_flips: Mirrored shots are shots too: for generators that were trained with flips.
        threshold: Distance below which an image is called a copy; none for the network's own ``copy_distance``.
    """

    more_is_better = (True, True, False, False, True)

    def __init__(
        self,
        features: LPIPSName | nn.Module = "vgg",
        weights: str | None = None,
        resize: int | None = None,
        count_flips: bool = False,
        threshold: float | None = None,
    ) -> None:
        super().__init__(features, weights, resize)
        self.count_flips, self.threshold = count_flips, threshold
        if count_flips and not isinstance(self.features, LPIPSFeatures):
            raise InputError("NearestLPIPS: count_flips needs images that can be mirrored, not features of a module")

    def names(self) -> tuple[str, ...]:
        """The mean, its 5 % quantile, coverage, the share of copies and the number of modes."""
        name = f"nearest_{self.kind}"
        return name, f"{name}_p05", f"{name}_coverage", f"{name}_copies", f"{name}_modes"

    def evaluate(self) -> Report:
        """All of these; NaN where a set is empty."""
        threshold = self._threshold()
        settings = self.settings() | {"count_flips": self.count_flips, "threshold": threshold}
        generated, real = self.source("generated"), self.source("real")
        if generated is None or real is None:
            why = f"both sets are needed, there are {settings['n_generated']} generated, {settings['n_real']} real"
            return Report(dict.fromkeys(self.names(), float("nan")), settings, {"why": why})
        shots = len(real)
        if isinstance(real, EmbeddedImages) and self.count_flips:
            real = EmbeddedImages(real.network, torch.cat([real.pixels, real.pixels.flip(-1)]))
        distances = torch.zeros(len(generated), shots, dtype=torch.float64)
        mine = self.share(torch.arange(len(generated)))
        with float32_inference(self.workplace):
            found = target_distances(generated, mine, real)
            distances[mine] = reduce(found, "image (mirrored shot) -> image shot", "min", shot=shots)
            distances = self.together(distances)
        nearest, which = distances.min(dim=1)
        reached = distances.amin(dim=0)
        copies, modes = (nearest < threshold).double().mean(), torch.tensor(len(which.unique()))
        values = (nearest.mean(), nearest.quantile(0.05), reached.mean(), copies, modes)
        levels = torch.tensor(QUANTILES, dtype=torch.float64)
        details = {
            "std": float(nearest.std()) if len(nearest) > 1 else None,
            "quantiles": dict(zip(map(str, QUANTILES), nearest.quantile(levels).tolist(), strict=True)),
            "nearest_of_each_shot": reached.tolist(),
        }
        return Report(dict(zip(self.names(), map(float, values), strict=True)), settings, details)

    def _threshold(self) -> float:
        if self.threshold is not None:
            return self.threshold
        if isinstance(self.features, LPIPSFeatures):
            return self.features.network.copy_distance
        return EmbeddingNetwork.copy_distance
