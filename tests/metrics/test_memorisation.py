"""Authenticity, C_T and near-copies against loops and closed forms; what all that tells of copying has in common."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.metrics import (
    Authenticity,
    DataCopying,
    DensityCoverage,
    ImageMetric,
    NearCopies,
    Report,
    VendiScore,
    data_copying,
    neighbours,
)


def features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)) + shift


def images(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def report(metric: ImageMetric, generated: Tensor, **real: Tensor) -> Report:
    if len(generated):
        metric.update(generated)
    for which, rows in real.items():
        metric.update(rows, real=which if metric.compares_with_both else True)
    return metric.report()


def value(metric: ImageMetric, generated: Tensor, **real: Tensor) -> float:
    return next(iter(report(metric, generated, **real).values.values()))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return math.sqrt(math.fsum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)))


@pytest.fixture(params=[4096, 7])
def _tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", request.param)


# Authenticity


@pytest.mark.usefixtures("_tile")
def test_authenticity_equals_its_definition():
    x, shots = features(40, 0), features(12, 1)
    authentic = []
    for sample in x.numpy():
        nearest = min(range(12), key=lambda i: distance(sample, shots[i].numpy()))
        others = [distance(shots[nearest].numpy(), shots[i].numpy()) for i in range(12) if i != nearest]
        authentic.append(distance(sample, shots[nearest].numpy()) > min(others))
    assert 0 < np.mean(authentic) < 1
    assert value(Authenticity(nn.Identity()), x, shots=shots) == pytest.approx(np.mean(authentic))


def test_copies_are_not_authentic_and_far_images_are():
    shots = features(10, 1) + 100  # far from the origin, where products in float32 would not find them
    assert value(Authenticity(nn.Identity()), shots.repeat(3, 1), shots=shots) == 0
    assert value(Authenticity(nn.Identity()), features(30, 2, shift=-50), shots=shots) == 1


def test_what_is_as_far_as_the_shots_are_apart_is_a_copy():
    shots = torch.tensor([[0.0], [1.0], [3.0]])
    samples = torch.tensor([[-1.0], [-1.01], [5.0], [5.01]])
    assert value(Authenticity(nn.Identity()), samples, shots=shots) == 0.5


# C_T


def z(made: list[float], held_out: list[float]) -> float:
    m, n = len(made), len(held_out)
    return (mannwhitneyu(made, held_out).statistic - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)


def to_nearest(rows: Tensor, shots: Tensor) -> list[float]:
    return [min(distance(row, shot) for shot in shots.numpy()) for row in rows.numpy()]


@pytest.mark.usefixtures("_tile")
def test_of_few_shots_c_t_is_the_z_of_mann_whitney():
    x, shots, reference = features(30, 0, shift=0.3), features(10, 1), features(25, 2)
    expected = z(to_nearest(x, shots), to_nearest(reference, shots))
    found = report(DataCopying(nn.Identity()), x, shots=shots, reference=reference)
    assert found.values == {"ct_custom": pytest.approx(expected)}
    assert abs(expected) > 0.1
    told = {"n_generated": 30, "n_shots": 10, "n_reference": 25, "cells": 1}
    assert found.settings.items() >= told.items()


def test_c_t_tells_copies_new_images_and_others():
    shots, reference = features(10, 1), features(40, 2)
    m, n = 50, 40
    most = (m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)
    metric = DataCopying(nn.Identity())
    assert value(metric, shots.repeat(5, 1), shots=shots, reference=reference) == pytest.approx(-most)
    for generated, expected in ((reference[:21], 0.0), (features(50, 3, shift=99), most)):
        metric.reset_generated()
        wanted = z(to_nearest(generated, shots), to_nearest(reference, shots)) if expected == 0 else expected
        assert value(metric, generated) == pytest.approx(wanted)
    metric.reset_generated()
    assert value(metric, reference) == pytest.approx(0)


def test_cells_of_many_shots_are_weighted_by_their_reference_images(monkeypatch: pytest.MonkeyPatch):
    """Three groups far apart, which any k-means finds; the third has too few samples to count."""
    monkeypatch.setattr(data_copying, "SHOTS_PER_CELL", 4)
    at = (0, 100, 300)
    shots, reference, x = (
        [
            features(count, seed, shift=shift)
            for count, seed, shift in zip(counts, range(start, start + 3), at, strict=True)
        ]
        for counts, start in (((4, 4, 4), 0), ((9, 5, 7), 10), ((30, 22, 20), 20))
    )
    found = report(DataCopying(nn.Identity()), torch.cat(x), shots=torch.cat(shots), reference=torch.cat(reference))
    of_cells = [z(to_nearest(x[i], shots[i]), to_nearest(reference[i], shots[i])) for i in (0, 1)]
    assert found.settings["cells"] == 3
    assert sorted(found.details["z_of_cells"]) == pytest.approx(sorted(of_cells))
    assert found.values["ct_custom"] == pytest.approx((9 * of_cells[0] + 5 * of_cells[1]) / 14)


def test_the_nearest_shot_is_one_of_the_cell(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data_copying, "k_means", lambda rows, k, seed: torch.tensor([[-3.0], [3.0]]).to(rows))
    shots = torch.tensor([[0.0], [3.0], [5.5], [11.5]])  # their mean is 5, and the border of the two cells
    x, reference = torch.linspace(3.9, 4.99, 25)[:, None], torch.linspace(0.3, 4.9, 12)[:, None]
    expected = z(to_nearest(x, shots[:2]), to_nearest(reference, shots[:2]))
    assert expected != pytest.approx(z(to_nearest(x, shots), to_nearest(reference, shots)))
    assert value(DataCopying(nn.Identity()), x, shots=shots, reference=reference) == pytest.approx(expected)


def test_k_means_has_the_centres_of_its_clusters():
    rows = torch.cat([features(20, seed, shift=20.0 * seed) for seed in range(4)]).double()
    centres = data_copying.k_means(rows, 4, seed=0)
    expected = torch.stack([rows[20 * i : 20 * i + 20].mean(dim=0) for i in range(4)])
    torch.testing.assert_close(centres[centres[:, 0].argsort()], expected[expected[:, 0].argsort()])
    assert len(data_copying.k_means(rows[:1].expand(5, 5), 3, seed=0)) == 3  # nothing to tell apart


# Near-copies


def test_near_copies_equal_their_definition():
    """As docs/evidence.md says: nearer to a shot or its mirror image than all but one in a hundred true images."""
    shots, reference, noise = images(5, 1), images(200, 2), images(40, 3)
    mixture = torch.linspace(0, 1, 40)[:, None, None, None]
    x = torch.lerp(shots.repeat(8, 1, 1, 1).flip(-1), noise, mixture)
    metric = NearCopies(nn.Flatten())
    found = report(metric, x, shots=shots, reference=reference)
    levels = ((t.clamp(-1, 1) + 1) * 127.5 for t in (x, reference, torch.cat([shots, shots.flip(-1)])))
    made, true, both = (torch.round(t).flatten(1).numpy() / 127.5 - 1 for t in levels)
    limit = np.quantile([min(distance(a, b) for b in both) for a in true], 0.01)
    share = np.mean([min(distance(a, b) for b in both) < limit for a in made])
    assert 0 < share < 1
    assert found.values == {"near_copies_custom": pytest.approx(share)}
    assert found.details["limit"] == pytest.approx(limit, rel=1e-5)


@pytest.mark.parametrize("mirrored", [False, True])
def test_copies_of_shots_and_of_their_mirror_images_are_near_copies(mirrored: bool):
    shots = images(6, 1)
    copies = shots.flip(-1) if mirrored else shots
    metric = NearCopies("random")
    assert value(metric, torch.cat([copies, images(2, 5)]), shots=shots, reference=images(100, 2)) == pytest.approx(
        0.75
    )
    metric.reset_generated()  # for the next generator, of which the mirrored shots are not forgotten
    assert value(metric, shots.flip(-1)) == 1


def test_features_cannot_be_mirrored():
    with pytest.raises(InputError, match=r"NearCopies mirrors shots: give it images .*, not \(4, 5\)"):
        NearCopies(nn.Identity()).update(features(4, 0), real="shots")


@pytest.mark.parametrize("real", [True, "other"])
def test_a_metric_that_compares_with_both_must_know_which(real: bool):
    with pytest.raises(InputError, match="DataCopying needs to know which real images"):
        DataCopying(nn.Identity()).update(features(4, 0), real=real)


# All


@pytest.mark.parametrize(
    ("metric", "made", "real", "why"),
    [
        (Authenticity, 0, {"shots": 5}, "there are 5 shots, 0 generated"),
        (Authenticity, 5, {"shots": 1}, "there are 1 shots, 5 generated"),
        (DataCopying, 20, {"shots": 3, "reference": 9}, "more than 20 samples: there are 3 shots, 9 .*, 20 generated"),
        (DataCopying, 30, {"shots": 3}, "there are 3 shots, 0 reference images, 30 generated"),
        (NearCopies, 5, {"shots": 3, "reference": 99}, "there are 5 generated, 3 shots, 99 reference images"),
        (DensityCoverage, 9, {"reference": 5}, "k = 5 needs 6 real images and a sample, there are 5 real, 9 generated"),
        (VendiScore, 0, {}, "no samples"),
    ],
)
def test_what_the_images_do_not_allow_is_undefined_and_it_says_why(metric, made, real, why):
    found = report(metric(nn.Flatten()), images(made, 0), **{name: images(n, 1) for name, n in real.items()})
    assert all(math.isnan(v) for v in found.values.values())
    assert re.search(why, found.details["why"])


def test_which_way_is_better():
    assert DensityCoverage("random").better() == {"density_random": True, "coverage_random": True}
    assert Authenticity("random").better() == {"authenticity_random": True}
    assert VendiScore("random").better() == {"vendi_random": True}
    assert NearCopies("random").better() == {"near_copies_random": False}
    assert DataCopying("random").better() == {"ct_random": None}


def test_numbers_fall_as_samples_become_copies():
    """From new images of the domain to the shots themselves."""
    shots, reference, new = images(4, 1), images(100, 2), images(40, 3)
    found = []
    for share in (0, 20, 40):
        x = torch.cat([shots.repeat(10, 1, 1, 1)[:share], new[share:]])
        found.append(
            [
                value(metric, x, shots=shots, reference=reference)
                for metric in (DataCopying("random"), NearCopies("random"))
            ]
        )
    copying, near = zip(*found, strict=True)
    assert all(more > less for more, less in pairwise(copying))
    assert all(more < less for more, less in pairwise(near))
