"""Precision and recall against brute force and torch-fidelity, with copies of images, in tiles."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from tenshot.metrics import PrecisionRecall, neighbours


def features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)) + shift


def both(generated: Tensor, real: Tensor, k: int = 3) -> tuple[float, float]:
    metric = PrecisionRecall(nn.Identity(), k=k)
    metric.update(generated)
    metric.update(real, real=True)
    precision, recall = metric.compute()
    return precision.item(), recall.item()


def by_force(generated: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    x, y = generated.double().numpy(), real.double().numpy()

    def covered(points: np.ndarray, centres: np.ndarray) -> float:
        own = np.square(centres[:, None] - centres[None]).sum(-1)
        np.fill_diagonal(own, np.inf)
        radii = np.sort(own, axis=1)[:, k - 1]
        return float((np.square(points[:, None] - centres[None]).sum(-1) <= radii).any(1).mean())

    return covered(x, y), covered(y, x)


@pytest.fixture(params=[4096, 7])
def _tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", request.param)


@pytest.mark.usefixtures("_tile")
@pytest.mark.parametrize("k", [1, 3, 9])
def test_equals_brute_force(k: int):
    x, y = features(30, 0, shift=0.7), features(20, 1)
    expected = by_force(x, y, k)
    assert 0 < expected[0] < 1
    assert 0 < expected[1] < 1
    assert both(x, y, k) == pytest.approx(expected)


def test_equals_torch_fidelity():
    x, y = features(30, 0, shift=0.7), features(20, 1)
    theirs = prc_features_to_metric(x, y, prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False, verbose=False)
    assert both(x, y) == pytest.approx((theirs[KEY_METRIC_PRECISION], theirs[KEY_METRIC_RECALL]))


@pytest.mark.usefixtures("_tile")
@pytest.mark.parametrize("far", [0, 1000])
def test_copies_of_images_are_decided_as_brute_force_decides_them(far: float):
    """Distances that are equal to the last bit: products in float64 alone get them wrong."""
    y = features(12, 1) + far
    x = torch.cat([y[:6], y[:2], features(4, 2, shift=1.0) + far])
    assert both(x, y) == pytest.approx(by_force(x, y, 3))
    assert both(y, y) == (1, 1)
    assert both(y[:1].expand(10, 5), y) == pytest.approx(by_force(y[:1].expand(10, 5), y, 3))


@pytest.mark.usefixtures("_tile")
def test_as_far_as_the_neighbour_is_inside():
    """Of the last two real images, whatever tile they are in; their mean is 26, so that nothing is rounded."""
    y = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [106.0], [107.0]])
    precision, _ = both(torch.tensor([[105.0], [108.0]]), y, k=1)
    assert precision == 1
    assert both(torch.tensor([[105.0], [108.1]]), y, k=1)[0] == 0.5


def test_a_collapsed_generator_is_precise_and_covers_nothing():
    y = features(50, 1)
    x = y.mean(0) + 1e-3 * features(50, 0)
    assert both(x, y) == (1, 0)


@pytest.mark.parametrize(("made", "given"), [(0, 9), (3, 9), (9, 3)])
def test_sets_without_kth_neighbours_are_undefined_and_it_says_why(made: int, given: int):
    metric = PrecisionRecall(nn.Identity())
    metric.update(features(made, 0))
    metric.update(features(given, 1), real=True)
    report = metric.report()
    assert all(math.isnan(value) for value in report.values.values())
    assert f"needs 4 images of each set, there are {made} generated, {given} real" in report.details["why"]
