"""Metrics of images, exact however the images are sharded over ranks."""

from tenshot.metrics.authenticity import Authenticity
from tenshot.metrics.base import ImageMetric, Report
from tenshot.metrics.bits_per_dim import BitsPerDim
from tenshot.metrics.cmmd import CMMD
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
from tenshot.metrics.path_metric import PathMetric
from tenshot.metrics.path_uniformity import PathUniformity
from tenshot.metrics.perceptual_path_length import PerceptualPathLength
from tenshot.metrics.precision_recall import PrecisionRecall
from tenshot.metrics.predictor_metric import PredictorMetric
from tenshot.metrics.registry import METRICS, MetricName
from tenshot.metrics.spatial_frechet import SpatialFrechetDistance
from tenshot.metrics.vendi import VendiScore

__all__ = [
    "CMMD",
    "METRICS",
    "Authenticity",
    "BitsPerDim",
    "Consistency",
    "DataCopying",
    "DensityCoverage",
    "DepthError",
    "DiversityLPIPS",
    "EdgeAgreement",
    "FrechetDistance",
    "ImageMetric",
    "InceptionScore",
    "IntraLPIPS",
    "KernelDistance",
    "MaskIoU",
    "MetricName",
    "NearCopies",
    "NearestLPIPS",
    "Nearness",
    "NormalError",
    "PairwiseLPIPS",
    "PathMetric",
    "PathUniformity",
    "PerceptualPathLength",
    "PrecisionRecall",
    "PredictorMetric",
    "Report",
    "SpatialFrechetDistance",
    "VendiScore",
]
