"""LPIPS metrics of points on a line: which shot an image belongs to, and what is undefined."""

import itertools
import math

import pytest
import torch
from lpips_reference import filled
from torch import Tensor, nn

from tenshot.metrics import IntraLPIPS, NearestLPIPS, PairwiseLPIPS


def points(*values: float) -> Tensor:
    """Features whose squared distances are plain to see."""
    return torch.tensor(values)[:, None]


def test_shots_that_nothing_is_near_are_left_out_with_a_warning():
    metric = filled(IntraLPIPS(nn.Identity()), points(0, 1, 3, 100), points(0, 100, 1000))
    with pytest.warns(UserWarning, match="intra_dist_custom: 2 of 3 shots are nearest to less than two of 4"):
        report = metric.report()
    mean = (1 + 9 + 4) / 3
    assert report.values["intra_dist_custom"] == pytest.approx(mean)
    assert math.isnan(report.values["intra_dist_custom_std"])
    assert "no standard deviation" in report.details.pop("why")
    assert report.details == {
        "cluster_means": [pytest.approx(mean), None, None],
        "cluster_sizes": [3, 1, 0],
        "n_undefined": 2,
        "sem": None,
        "zero_filled": pytest.approx(mean / 3),
    }


def test_what_is_undefined_is_nan_and_says_why():
    cases = (
        (IntraLPIPS, points(0, 10), points(0, 10), "no cluster has two members"),
        (IntraLPIPS, points(0, 10), None, "both sets are needed, there are 2 generated, 0 real"),
        (NearestLPIPS, points(0, 10), None, "both sets are needed, there are 2 generated, 0 real"),
        (PairwiseLPIPS, points(0), None, "two images are needed, there are 1"),
    )
    for kind, generated, real, why in cases:
        report = filled(kind(nn.Identity()), generated, real).report()
        assert all(math.isnan(value) for value in report.values.values())
        assert report.details["why"] == why
    assert IntraLPIPS(nn.Identity()).report().settings["n_generated"] == 0


def test_an_image_between_equal_shots_belongs_to_the_first():
    report = filled(IntraLPIPS(nn.Identity()), points(0, 1, 2, 9, 8), points(1, 9, 1, 9)).report()
    assert report.details["cluster_sizes"] == [3, 2, 0, 0]


def test_members_above_the_cap_are_chosen_at_random_by_the_seed():
    members = points(0, 1, 3, 7, 15)
    means = {
        sum((members[i] - members[j]).square().item() for i, j in itertools.combinations(chosen, 2)) / 3: chosen
        for chosen in itertools.combinations(range(5), 3)
    }

    def chosen(**arguments) -> tuple[int, ...]:
        metric = filled(IntraLPIPS(nn.Identity(), cap=3, **arguments), members, points(0))
        mean = float(metric.compute())
        return next(subset for value, subset in means.items() if math.isclose(value, mean, rel_tol=1e-6))

    before = torch.random.get_rng_state()
    found = [chosen(seed=seed) for seed in range(100)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert set(found) == set(means.values())
    assert chosen(seed=5) == found[5]
    assert chosen(subset="first") == (0, 1, 2)
    assert chosen(subset="first", seed=3) == (0, 1, 2)
