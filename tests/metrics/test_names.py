"""What a metric says it will compute is what it computes, with and without pictures."""

from collections.abc import Callable

import pytest
import torch

from tenshot.metrics import (
    FrechetDistance,
    ImageMetric,
    InceptionScore,
    IntraLPIPS,
    KernelDistance,
    NearestLPIPS,
    PairwiseLPIPS,
    PathMetric,
    PathUniformity,
    PerceptualPathLength,
    PrecisionRecall,
)

METRICS: list[Callable[..., ImageMetric]] = [
    FrechetDistance, KernelDistance, InceptionScore, PrecisionRecall, IntraLPIPS, NearestLPIPS, PairwiseLPIPS,
    PerceptualPathLength, PathUniformity,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:intra_", "ignore:The ``compute`` method")
@pytest.mark.parametrize("build", METRICS)
def test_the_values_are_those_that_were_announced(build: Callable[..., ImageMetric]):
    metric = build("random")
    metric.prepare()
    announced = list(metric.names())
    assert announced == list(metric.report().values)
    pictures = torch.rand(11, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if isinstance(metric, PathMetric):
        metric.update(pictures[None, : metric.pictures])
    else:
        metric.update(pictures)
        if metric.compares:
            metric.update(pictures[:4], real=True)
    assert announced == list(metric.report().values)
