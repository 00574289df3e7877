"""What a metric says it will compute is what it computes, with and without images."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from tiny_inception import TinyInception
from torch import nn

from tenshot.datamodules.pairs import colours_of
from tenshot.metrics import (
    METRICS,
    Consistency,
    DiversityLPIPS,
    EdgeAgreement,
    ImageMetric,
    MaskIoU,
    MetricName,
    PathMetric,
    PredictorMetric,
    SpatialFrechetDistance,
)

OF_NO_CHOICE = ("spatial_frechet", "consistency", "mask_iou", "edge_agreement", "depth_error", "normal_error")
"""Of Inception alone, of no network, and of one that is trained on pairs."""
OF_LITE0 = {
    "frechet": "fd_efficientnet_lite0", "kernel": "kd_efficientnet_lite0", "inception_score": "is_efficientnet_lite0",
    "precision_recall": "precision_efficientnet_lite0", "intra_lpips": "intra_dist_efficientnet_lite0",
    "nearest_lpips": "nearest_dist_efficientnet_lite0", "pairwise_lpips": "pairwise_dist_efficientnet_lite0",
    "path_length": "path_dist_efficientnet_lite0_wend", "path_uniformity": "path_dist_efficientnet_lite0",
    "diversity_lpips": "diversity_dist_efficientnet_lite0",
}  # fmt: skip


def test_values_of_efficientnet_lite0_are_named_by_it():
    kinds = {name: build for name, build in METRICS.items() if name not in OF_NO_CHOICE}
    named = {name: build("efficientnet_lite0").names()[0] for name, build in kinds.items()}  # type: ignore[call-arg]
    assert {name: named[name] for name in OF_LITE0} == OF_LITE0
    assert all("_efficientnet_lite0" in value for value in named.values())


def test_the_command_line_offers_every_metric():
    assert set(get_args(MetricName)) == METRICS.keys()


@pytest.mark.filterwarnings("ignore:intra_", "ignore:The ``compute`` method")
@pytest.mark.parametrize("build", METRICS.values())
def test_the_values_are_those_that_were_announced(build: Callable[..., ImageMetric]):
    if build in (Consistency, EdgeAgreement):
        metric = build()
    elif isinstance(build, type) and issubclass(build, PredictorMetric):
        metric = build(nn.Identity())
    else:
        metric = build(TinyInception() if build is SpatialFrechetDistance else "random")
    metric.prepare()
    announced = list(metric.names())
    assert announced == list(metric.report().values) == list(metric.better())
    images = torch.rand(11, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if isinstance(metric, PathMetric):
        metric.update(images[None, : metric.images_per_path])
    elif isinstance(metric, Consistency):
        metric.update(images, low_res=(images, -images))
    elif isinstance(metric, DiversityLPIPS):
        metric.update(images, pair=torch.arange(11) % 4)
    elif isinstance(metric, PredictorMetric | EdgeAgreement):
        levels = torch.full((11, 1 if isinstance(metric, EdgeAgreement) else 3, 32, 32), 128, dtype=torch.uint8)
        metric.update(images, condition_image=colours_of(levels[:, 0] // 64) if build is MaskIoU else levels)
    else:
        metric.update(images)
        for which in metric.needs if metric.compares_with_both else (True,) if metric.compares else ():
            metric.update(images[:4], real=which)
    assert announced == list(metric.report().values)
