"""Metrics of pictures, exact however the pictures are shared out over ranks."""

from tenshot.metrics.base import ImageMetric
from tenshot.metrics.report import Report

__all__ = ["ImageMetric", "Report"]
