"""The metrics that an evaluation knows by name."""

from typing import Literal

from tenshot.metrics.base import ImageMetric
from tenshot.metrics.frechet import FrechetDistance
from tenshot.metrics.inception_score import InceptionScore
from tenshot.metrics.intra_lpips import IntraLPIPS
from tenshot.metrics.kernel import KernelDistance
from tenshot.metrics.nearest_lpips import NearestLPIPS
from tenshot.metrics.pairwise_lpips import PairwiseLPIPS
from tenshot.metrics.path_uniformity import PathUniformity
from tenshot.metrics.perceptual_path_length import PerceptualPathLength
from tenshot.metrics.precision_recall import PrecisionRecall

__all__ = ["METRICS", "MetricName"]

MetricName = Literal[
    "frechet", "kernel", "inception_score", "precision_recall", "intra_lpips", "nearest_lpips", "pairwise_lpips",
    "path_length", "path_uniformity",
]  # fmt: skip

METRICS: dict[str, type[ImageMetric]] = {
    "frechet": FrechetDistance,
    "kernel": KernelDistance,
    "inception_score": InceptionScore,
    "precision_recall": PrecisionRecall,
    "intra_lpips": IntraLPIPS,
    "nearest_lpips": NearestLPIPS,
    "pairwise_lpips": PairwiseLPIPS,
    "path_length": PerceptualPathLength,
    "path_uniformity": PathUniformity,
}
