"""Kernel distance against torch-fidelity and a double loop; its error against repeated draws."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from tenshot.metrics import KernelDistance, kernel


def features(count: int, seed: int, width: int = 6, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) + shift


def distance(generated: Tensor, real: Tensor, **settings: int) -> tuple[float, float]:
    metric = KernelDistance(nn.Identity(), **settings)
    metric.update(generated)
    metric.update(real, real=True)
    value, spread = metric.compute()
    return value.item(), spread.item()


def by_loop(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate, pair by pair."""

    def mean(a: Tensor, b: Tensor) -> float:
        pairs = [
            (float(u @ v) / len(u) + 1) ** 3 for i, u in enumerate(a) for j, v in enumerate(b) if a is not b or i != j
        ]
        return sum(pairs) / len(pairs)

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


@pytest.mark.parametrize("subsets", [8, 40])  # so that pairs are fewer than in one matrix of all, and more
def test_subsets_are_those_of_torch_fidelity(subsets: int):
    x, y = features(60, 0), features(45, 1, shift=0.3)
    theirs = kid_features_to_metric(x, y, kid_subsets=subsets, kid_subset_size=20, rng_seed=2020, verbose=False)
    value, spread = distance(x, y, subsets=subsets, subset_size=20)
    assert value == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-9)
    assert spread == pytest.approx(theirs[KEY_METRIC_KID_STD], rel=1e-9)


@pytest.mark.parametrize("tile", [4096, 5])
def test_sets_below_the_subset_size_are_compared_pair_by_pair(tile: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernel, "TILE", tile)
    x, y = features(13, 0), features(9, 1, shift=0.5)
    assert distance(x, y)[0] == pytest.approx(by_loop(x, y), rel=1e-10)


def test_the_report_says_which_estimate_it_is():
    metric = KernelDistance(nn.Identity(), subset_size=10)
    metric.update(features(12, 0))
    metric.update(features(9, 1), real=True)
    assert metric.report().settings["estimate"] == "all pairs"
    metric.update(features(9, 2), real=True)
    assert metric.report().settings["estimate"] == "subsets"
    assert metric.report().settings["n_real"] == 18


def test_it_is_unbiased_for_few_images_and_its_error_is_the_spread_of_repeated_draws():
    results = np.array([distance(features(15, 2 * n, shift=0.6), features(20, 2 * n + 1)) for n in range(300)])
    expected = distance(features(4000, 1000, shift=0.6), features(4000, 1001), subset_size=5000, resamples=1)[0]
    assert abs(results[:, 0].mean() - expected) < 4 * results[:, 0].std() / math.sqrt(300)
    assert results[:, 1].mean() == pytest.approx(results[:, 0].std(), rel=0.2)


def test_it_may_be_negative_for_one_distribution():
    values = [distance(features(10, 2 * n), features(10, 2 * n + 1))[0] for n in range(20)]
    assert min(values) < 0 < max(values)


@pytest.mark.parametrize(("made", "given"), [(0, 3), (1, 3), (3, 1)])
def test_less_than_two_images_are_undefined_and_it_says_why(made: int, given: int):
    metric = KernelDistance(nn.Identity())
    metric.update(features(made, 0))
    metric.update(features(given, 1), real=True)
    report = metric.report()
    assert all(math.isnan(value) for value in report.values.values())
    assert f"{made} generated, {given} real" in report.details["why"]


def test_two_images_are_enough():
    assert all(math.isfinite(value) for value in distance(features(2, 0), features(2, 1)))


def test_the_random_state_of_the_program_is_neither_used_nor_moved():
    x, y = features(30, 0), features(30, 1)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first = distance(x, y, subset_size=10)
    assert (np.random.get_state()[1] == state[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state[1])
    torch.rand(1), np.random.rand(1)  # noqa: NPY002
    assert distance(x, y, subset_size=10) == first
    assert distance(x, y, subset_size=10, seed=1) != first
