"""Metrics of pictures, exact however the pictures are shared out over ranks."""

from tenshot.metrics.base import ImageMetric
from tenshot.metrics.frechet import FrechetDistance
from tenshot.metrics.inception_score import InceptionScore
from tenshot.metrics.kernel import KernelDistance
from tenshot.metrics.precision_recall import PrecisionRecall
from tenshot.metrics.report import Report

__all__ = ["FrechetDistance", "ImageMetric", "InceptionScore", "KernelDistance", "PrecisionRecall", "Report"]
