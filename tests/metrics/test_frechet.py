"""Fréchet distance against closed forms, SciPy and two libraries; kept as rows and as sums."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor, nn
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from tenshot.errors import InputError
from tenshot.metrics import FrechetDistance


def features(count: int, width: int, seed: int = 0) -> Tensor:
    """Correlated, with means of their own, float64."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    shift = torch.randn(width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mixing + shift


def distance(generated: Tensor, real: Tensor, batch: int = 7) -> float:
    metric = FrechetDistance(nn.Identity())
    for part in generated.split(batch):
        metric.update(part)
    for part in real.split(batch):
        metric.update(part, real=True)
    return metric.compute().item()


def by_scipy(x: Tensor, y: Tensor) -> float:
    a, b = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    means = np.square(x.numpy().mean(0) - y.numpy().mean(0)).sum()
    return float(means + np.trace(a) + np.trace(b) - 2 * np.trace(linalg.sqrtm(a @ b).real))


def test_gaussians_on_the_axes_have_the_closed_form():
    """(m1 - m2)² + (s1 - s2)² for each axis, where the sample's covariance is diagonal."""
    signs = torch.tensor([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)]).double()
    scale, shift = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([0.0, 3.0, -1.0]).double()
    unbiased = 8 / 7  # of the variance of ±1
    expected = (shift.square() + unbiased * (scale - 1).square()).sum().item()
    assert distance(signs * scale + shift, signs) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("made", "given"), [(60, 50), (60, 9), (9, 60), (9, 8), (2, 60), (2, 2)])
def test_equals_scipy_and_torch_fidelity_with_more_and_with_fewer_images_than_features(made: int, given: int):
    x, y = features(made, 12), features(given, 12, seed=1)
    ours = distance(x, y)
    fidelity = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), False)
    assert ours == pytest.approx(fidelity[KEY_METRIC_FID], rel=1e-5)  # which is off by √rounding a missing rank
    if min(made, given) > 12:
        assert ours == pytest.approx(by_scipy(x, y), rel=1e-10)
        assert ours == pytest.approx(fidelity[KEY_METRIC_FID], rel=1e-10)


def test_few_images_against_a_root_with_many_digits():
    """Singular covariances: eigenvalues of a product of two lose half the digits, the singular values do not."""
    x, y = features(3, 20), features(5, 20, seed=1)
    a, b = ((rows - rows.mean(0)) / math.sqrt(len(rows) - 1) for rows in (x, y))
    nuclear = np.linalg.svd((a @ b.T).numpy(), compute_uv=False).sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * nuclear
    assert distance(x, y) == pytest.approx(expected.item(), rel=1e-12)


def test_equals_torchmetrics():
    class Rows(nn.Identity):
        num_features = 12

    x, y = features(40, 12), features(30, 12, seed=1)
    theirs = FrechetInceptionDistance(feature=Rows(), normalize=True).set_dtype(torch.float64)
    theirs.used_custom_model = True
    theirs.update(x, real=False)
    theirs.update(y, real=True)
    assert distance(x, y) == pytest.approx(theirs.compute().item(), rel=1e-9)


@pytest.mark.parametrize("count", [5, 40])
def test_equal_sets_have_no_distance_and_it_never_shows_as_negative(count: int):
    x = features(count, 12)
    metric = FrechetDistance(nn.Identity())
    metric.update(x)
    metric.update(x.flip(0), real=True)
    report = metric.report()
    assert 0 <= report.values["fd_custom"] < 1e-9
    assert abs(report.details["unclamped"]) < 1e-9


@pytest.mark.parametrize("batch", [1, 5, 13, 100])
def test_sums_and_rows_and_any_batches_give_the_same(batch: int):
    x, y = features(60, 12), features(11, 12, seed=1)
    assert distance(x, y, batch) == pytest.approx(distance(x, y, 60), rel=1e-10)


def test_sums_keep_a_small_spread_around_a_large_mean():
    """In float32 the covariance of such features comes out negative."""
    generator = torch.Generator().manual_seed(0)
    x = 100 + 0.01 * torch.randn(500, 4, generator=generator, dtype=torch.float64)
    y = 100 + 0.02 * torch.randn(500, 4, generator=generator, dtype=torch.float64)
    assert distance(x, y) == pytest.approx(by_scipy(x - 100, y - 100), rel=1e-5)


def test_a_large_set_is_kept_as_its_sums_alone():
    metric = FrechetDistance(nn.Identity())
    for part in features(400, 8).split(10):
        metric.update(part)
    assert sum(map(len, metric.generated)) <= 8
    assert metric.generated_products.shape == (9, 9)


@pytest.mark.parametrize(("made", "given"), [(0, 5), (5, 0), (1, 5), (5, 1)])
def test_less_than_two_images_are_undefined_and_it_says_why(made: int, given: int):
    metric = FrechetDistance(nn.Identity())
    metric.update(features(made, 4))
    metric.update(features(given, 4), real=True)
    report = metric.report()
    assert math.isnan(report.values["fd_custom"])
    assert f"{made} generated, {given} real" in report.details["why"]


def test_features_of_two_widths_are_refused():
    metric = FrechetDistance(nn.Identity())
    metric.update(features(5, 4))
    with pytest.raises(InputError, match="3 features, but earlier images had 4"):
        metric.update(features(5, 3), real=True)
