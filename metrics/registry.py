"""The metrics that an evaluation knows by name."""

from typing import Literal

from tenshot.metrics.authenticity import Authenticity
from tenshot.metrics.base import ImageMetric
from tenshot.metrics.consistency import Consistency
from tenshot.metrics.data_copying import DataCopying
from tenshot.metrics.density_coverage import DensityCoverage
from tenshot.metrics.depth_error import DepthError
from tenshot.metrics.diversity_lpips import DiversityLPIPS
from tenshot.metrics.edge_agreement import EdgeAgreement
from tenshot.metrics.frechet import FrechetDistance
from tenshot.metrics.inception_score import InceptionScore
from tenshot.metrics.intra_lpips import IntraLPIPS
from tenshot.metrics.kernel import KernelDistance
from tenshot.metrics.mask_iou import MaskIoU
from tenshot.metrics.near_copies import NearCopies
from tenshot.metrics.nearest_lpips import NearestLPIPS
from tenshot.metrics.nearness import Nearness
from tenshot.metrics.normal_error import NormalError
from tenshot.metrics.pairwise_lpips import PairwiseLPIPS
from tenshot.metrics.path_uniformity import PathUniformity
from tenshot.metrics.perceptual_path_length import PerceptualPathLength
from tenshot.metrics.precision_recall import PrecisionRecall
from tenshot.metrics.spatial_frechet import SpatialFrechetDistance
from tenshot.metrics.vendi import VendiScore

__all__ = ["METRICS", "MetricName"]

MetricName = Literal[
    "frechet", "spatial_frechet", "kernel", "inception_score", "precision_recall", "density_coverage", "vendi",
    "intra_lpips", "nearest_lpips", "pairwise_lpips", "authenticity", "data_copying", "near_copies", "nearness",
    "path_length", "path_uniformity", "consistency",
    "mask_iou", "edge_agreement", "depth_error", "normal_error", "diversity_lpips",
]  # fmt: skip

METRICS: dict[str, type[ImageMetric]] = {
    "frechet": FrechetDistance,
    "spatial_frechet": SpatialFrechetDistance,
    "kernel": KernelDistance,
    "inception_score": InceptionScore,
    "precision_recall": PrecisionRecall,
    "density_coverage": DensityCoverage,
    "vendi": VendiScore,
    "intra_lpips": IntraLPIPS,
    "nearest_lpips": NearestLPIPS,
    "pairwise_lpips": PairwiseLPIPS,
    "authenticity": Authenticity,
    "data_copying": DataCopying,
    "near_copies": NearCopies,
    "nearness": Nearness,
    "path_length": PerceptualPathLength,
    "path_uniformity": PathUniformity,
    "consistency": Consistency,
    "mask_iou": MaskIoU,
    "edge_agreement": EdgeAgreement,
    "depth_error": DepthError,
    "normal_error": NormalError,
    "diversity_lpips": DiversityLPIPS,
}
