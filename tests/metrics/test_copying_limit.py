"""Above which value a metric says that samples are copies, against new images of a domain, drawn again and again."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tenshot.metrics import METRICS, NearCopies, Nearness
from tenshot.metrics.nearness import nearness


def rows(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, 10, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("shots", "samples"), [(5, 100), (10, 100), (10, 20), (50, 50)])
def test_new_images_are_seldom_nearer_than_the_limit_and_copies_always(shots: int, samples: int):
    limit = Nearness.copying_limit({"n_real": shots, "n_generated": samples})
    assert limit is not None
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(300):
        drawn = rows(shots + samples, generator)
        found.append(nearness(drawn[shots:], drawn[:shots], drawn[:shots]))
    assert 0.5 + np.std(found) < limit < 0.5 + 4 * np.std(found)
    assert np.mean(np.array(found) > limit) < 0.03
    copies = drawn[:shots].repeat(samples // shots, 1)
    assert nearness(copies, drawn[:shots], drawn[:shots]) > limit


@pytest.mark.parametrize(("references", "samples"), [(100, 50), (1000, 100)])
def test_the_share_of_near_copies_is_exceeded_by_chance_once_in_a_thousand_times(references: int, samples: int):
    """Only the order of distances counts, so let them be uniform: then the gaps between those of the reference images
    are exponential numbers over their sum. A limit of one image less is exceeded more often."""
    limit = NearCopies.copying_limit({"n_reference": references, "n_generated": samples})
    assert limit is not None
    draw, place = np.random.default_rng(0), 0.01 * (references - 1)
    below, above = int(place), int(place) + 1
    in_order = draw.exponential(size=(200_000, above + 1)).cumsum(axis=1)
    whole = in_order[:, above] + draw.gamma(references - above, size=200_000)
    quantile = in_order[:, below] + (place - below) * (in_order[:, above] - in_order[:, below])
    shares = draw.binomial(samples, quantile / whole) / samples
    assert np.mean(shares > limit) < 0.0012
    assert np.mean(shares > limit - 1 / samples) > 0.001


def test_of_too_few_images_and_of_other_metrics_there_is_no_limit():
    for shots, samples in ((4, 1000), (1, 10), (0, 10), (10, 0)):  # copies of four shots are at 0.875
        assert Nearness.copying_limit({"n_real": shots, "n_generated": samples}) is None
    for references, samples in ((99, 10), (1000, 0), (0, 10)):
        assert NearCopies.copying_limit({"n_reference": references, "n_generated": samples}) is None
    for name in METRICS.keys() - {"nearness", "near_copies"}:
        assert METRICS[name].copying_limit({}) is None
