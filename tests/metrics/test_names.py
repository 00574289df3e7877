"""What a metric says it will compute is what it computes, with and without images."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from tenshot.metrics import METRICS, ImageMetric, MetricName, PathMetric


def test_the_command_line_offers_every_metric():
    assert set(get_args(MetricName)) == METRICS.keys()


@pytest.mark.filterwarnings("ignore:intra_", "ignore:The ``compute`` method")
@pytest.mark.parametrize("build", METRICS.values())
def test_the_values_are_those_that_were_announced(build: Callable[..., ImageMetric]):
    metric = build("random")
    metric.prepare()
    announced = list(metric.names())
    assert announced == list(metric.report().values) == list(metric.better())
    images = torch.rand(11, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if isinstance(metric, PathMetric):
        metric.update(images[None, : metric.images_per_path])
    else:
        metric.update(images)
        if metric.compares:
            metric.update(images[:4], real=True)
    assert announced == list(metric.report().values)
