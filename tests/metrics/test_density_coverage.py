"""Density and coverage against loops and closed forms, with copies of images, in tiles."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tenshot.metrics import DensityCoverage, Report, neighbours


def features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)) + shift


def report(generated: Tensor, real: Tensor, k: int = 5) -> Report:
    metric = DensityCoverage(nn.Identity(), k=k)
    metric.update(generated)
    metric.update(real, real=True)
    return metric.report()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return math.sqrt(math.fsum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)))


@pytest.fixture(params=[4096, 7])
def _tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", request.param)


def by_force(x: np.ndarray, y: np.ndarray, k: int) -> tuple[float, float]:
    radii = [sorted(distance(a, b) for j, b in enumerate(y) if j != i)[k - 1] for i, a in enumerate(y)]
    inside = [[distance(a, b) < r for b, r in zip(y, radii, strict=True)] for a in x]
    return np.sum(inside) / (k * len(x)), float(np.any(inside, axis=0).mean())


@pytest.mark.usefixtures("_tile")
@pytest.mark.parametrize("k", [1, 3, 5])
def test_density_and_coverage_equal_their_definition(k: int):
    x, y = features(30, 0, shift=1.0), features(20, 1)
    found = report(x, y, k)
    expected = by_force(x.numpy(), y.numpy(), k)
    assert min(expected) > 0
    assert expected[1] < 1
    assert list(found.values.items()) == [
        ("density_custom", pytest.approx(expected[0])), ("coverage_custom", pytest.approx(expected[1]))
    ]  # fmt: skip
    assert found.settings["k"] == k


@pytest.mark.usefixtures("_tile")
@pytest.mark.parametrize("far", [0, 1000])
def test_the_real_images_themselves_are_as_dense_and_cover_all(far: float):
    """Each lies in k neighbourhoods, in its own and, not counting borders, in those of k - 1 others, on average."""
    y = features(25, 1) + far
    found = report(y, y)
    assert list(found.values.values()) == [1, 1]


def test_samples_of_one_image_cover_its_neighbourhoods_alone():
    y = torch.arange(20.0)[:, None]  # each reaches 2 or 3 to either side with k = 5, and more at the ends
    found = report(y[10].expand(50, 1), y)
    assert list(found.values.values()) == [pytest.approx(5 / 5), pytest.approx(5 / 20)]


def test_outliers_of_the_samples_do_not_widen_neighbourhoods():
    """What the paper puts right: a far sample has a wide ball of its own, which recall counts."""
    y = features(50, 1)
    found = report(features(50, 2) * 0.01 + 80, y)
    assert list(found.values.values()) == [0, 0]
