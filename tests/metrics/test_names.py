"""What a metric says it will compute is what it computes, with and without images."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from tiny_inception import TinyInception

from tenshot.metrics import METRICS, Consistency, ImageMetric, MetricName, PathMetric, SpatialFrechetDistance

OF_NO_CHOICE = ("spatial_frechet", "consistency")
"""Of Inception alone, and of no network."""
OF_LITE0 = {
    "frechet": "fd_efficientnet_lite0", "kernel": "kd_efficientnet_lite0", "inception_score": "is_efficientnet_lite0",
    "precision_recall": "precision_efficientnet_lite0", "intra_lpips": "intra_dist_efficientnet_lite0",
    "nearest_lpips": "nearest_dist_efficientnet_lite0", "pairwise_lpips": "pairwise_dist_efficientnet_lite0",
    "path_length": "path_dist_efficientnet_lite0_wend", "path_uniformity": "path_dist_efficientnet_lite0",
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
    metric = (
        Consistency()
        if build is Consistency
        else build(TinyInception() if build is SpatialFrechetDistance else "random")
    )
    metric.prepare()
    announced = list(metric.names())
    assert announced == list(metric.report().values) == list(metric.better())
    images = torch.rand(11, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if isinstance(metric, PathMetric):
        metric.update(images[None, : metric.images_per_path])
    elif isinstance(metric, Consistency):
        metric.update(images, low_res=(images, -images))
    else:
        metric.update(images)
        for which in metric.needs if metric.compares_with_both else (True,) if metric.compares else ():
            metric.update(images[:4], real=which)
    assert announced == list(metric.report().values)
