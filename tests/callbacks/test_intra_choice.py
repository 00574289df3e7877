"""The papers' choices of a cluster's members, by name."""

from typing import Any

import pytest
import torch

from tenshot.callbacks.metric_choice import Requests, build
from tenshot.errors import InputError
from tenshot.metrics import IntraLPIPS, PairwiseLPIPS

COUNT = 110
IMAGES = torch.rand(COUNT + 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def of_one_shot(name: Any) -> IntraLPIPS:
    metric = build("intra_lpips", Requests(None, "random", None, None, None, "wend", intra_lpips=name))
    metric.update(IMAGES[:COUNT])
    metric.update(IMAGES[COUNT:], real=True)
    return metric  # type: ignore[return-value]


@pytest.mark.parametrize(("name", "most"), [("first50", 50), ("first100", 100)])
def test_the_first_members_are_compared(name: str, most: int):
    """Those of one shot are all in its cluster: their mean distance is that of pairs of the first images."""
    among = PairwiseLPIPS("random")
    among.update(IMAGES[:most])
    report = of_one_shot(name).report()
    assert report.values["intra_dist_random"] == pytest.approx(among.compute().item(), rel=1e-5)
    assert report.settings.items() >= {"cap": most, "subset": "first"}.items()


def test_by_default_fifty_of_them_are_drawn():
    metric = build("intra_lpips", Requests(None, "random", None, None, None, "wend"))
    assert (metric.cap, metric.subset) == (50, "random")  # type: ignore[attr-defined]
    report, first = of_one_shot("random50").report(), of_one_shot("first50").report()
    assert report.settings.items() >= {"cap": 50, "subset": "random", "seed": 0}.items()
    assert report.values["intra_dist_random"] != first.values["intra_dist_random"]


def test_a_choice_that_nobody_made_is_refused():
    with pytest.raises(InputError, match=r"--evaluate\.intra_lpips 'first5' is unknown: choose one of random50"):
        Requests(None, "random", None, None, None, "wend", intra_lpips="first5")  # type: ignore[arg-type]
