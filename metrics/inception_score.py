"""The Inception Score."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import EfficientNetLite0Features, FeatureName, InceptionFeatures
from tenshot.models.float32 import float32_inference

__all__ = ["InceptionScore"]


class InceptionScore(FeatureMetric):
    """exp of the mean KL(p(class|image) ‖ p(class)), mean and standard deviation over splits (arXiv 1606.03498).

    ``is`` with the published Inception: its 1008 classes, logits without bias, shuffled and split as torch-fidelity
    does. ``is_efficientnet_lite0`` is of that network's 1000 classes. Else ``is_<features>``, where the features
    themselves are taken for logits.

    Args:
        features: ``inception``, ``vgg16``, ``random``, or any module that returns logits (N, classes).
        weights: Weight file of a named network; none for the public one.
        splits: Number of splits.
        seed: Of the shuffling.
    """

    needs = ()
    headlines = 2
    more_is_better = (True, None)

    def __init__(
        self,
        features: FeatureName | nn.Module = "inception",
        weights: str | None = None,
        splits: int = 10,
        seed: int = 2020,
    ) -> None:
        super().__init__(features, weights)
        if splits < 1:
            raise InputError(f"InceptionScore: splits is {splits}: choose 1 or more")
        self.splits, self.seed = splits, seed

    def rows_of(self, images: Tensor) -> Tensor:
        """(N, classes) logits."""
        rows, network = self.features(images), self.features.network
        if not isinstance(network, InceptionFeatures | EfficientNetLite0Features):
            return rows
        with float32_inference(rows.device):
            return network.logits(rows)

    def names(self) -> tuple[str, ...]:
        """The score and its spread."""
        name = "is" if self.features.is_published(InceptionFeatures) else f"is_{self.features.name}"
        return name, f"{name}_std"

    def evaluate(self) -> Report:
        """The score and its spread; NaN for less images than splits."""
        names = self.names()
        settings = self.counts() | self.features.settings() | {"splits": self.splits, "seed": self.seed}
        logits = self.rows("generated")
        if logits is None or len(logits) < self.splits:
            why = f"{settings['n_generated']} images cannot be split into {self.splits}"
            return Report(dict.fromkeys(names, float("nan")), settings, {"why": why})
        count = len(logits)
        order = torch.from_numpy(np.random.RandomState(self.seed).permutation(count))
        bounds = [split * count // self.splits for split in range(self.splits + 1)]
        scores = []
        for start, end in pairwise(bounds):
            log_p = logits[order[start:end]].to(self.worker, torch.float64).log_softmax(dim=1)
            log_q = log_p.logsumexp(dim=0) - np.log(len(log_p))
            scores.append((log_p.exp() * (log_p - log_q)).sum(dim=1).mean().exp().item())
        return Report(dict(zip(names, (float(np.mean(scores)), float(np.std(scores))), strict=True)), settings)
