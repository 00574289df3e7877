"""The Inception Score against torch-fidelity and closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from tenshot.errors import InputError
from tenshot.metrics import InceptionScore


def score(logits: Tensor, **settings: int) -> tuple[float, float]:
    metric = InceptionScore(nn.Identity(), **settings)
    for part in logits.split(7):
        metric.update(part)
    value, spread = metric.compute()
    return value.item(), spread.item()


@pytest.mark.parametrize(("count", "splits"), [(53, 10), (20, 1), (10, 10)])
def test_equals_torch_fidelity(count: int, splits: int):
    logits = 3 * torch.randn(count, 9, generator=torch.Generator().manual_seed(0))
    theirs = isc_features_to_metric(logits, splits=splits)
    value, spread = score(logits, splits=splits)
    assert value == pytest.approx(theirs[KEY_METRIC_ISC_MEAN], rel=1e-9)
    assert spread == pytest.approx(theirs[KEY_METRIC_ISC_STD], rel=1e-6, abs=1e-12)


def test_certain_and_evenly_spread_images_score_the_number_of_classes_and_equal_ones_score_one():
    assert score(1000 * torch.eye(5), splits=1)[0] == pytest.approx(5)
    assert score(torch.randn(1, 5).expand(20, 5), splits=2) == pytest.approx((1, 0))


def test_images_in_order_of_their_classes_are_shuffled():
    """Unshuffled, each of ten splits would hold one class and score 1."""
    assert score(100 * torch.eye(10).repeat_interleave(50, 0))[0] > 8


def test_fewer_images_than_splits_are_undefined_and_it_says_why():
    metric = InceptionScore(nn.Identity())
    metric.update(torch.randn(9, 4))
    report = metric.report()
    assert all(math.isnan(value) for value in report.values.values())
    assert "9 images cannot be split into 10" in report.details["why"]


def test_it_has_no_use_for_real_images():
    with pytest.raises(InputError, match="leave real out"):
        InceptionScore(nn.Identity()).update(torch.randn(3, 4), real=True)
