"""CMMD against its definition, pair by pair."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tenshot.metrics import CMMD, cmmd


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    return math.exp(-((a - b) ** 2).sum() / 200)


@pytest.mark.parametrize("tile", [4096, 3])
def test_it_is_a_thousand_times_the_squared_discrepancy_over_all_pairs(monkeypatch: pytest.MonkeyPatch, tile: int):
    monkeypatch.setattr(cmmd, "TILE", tile)
    generator = torch.Generator().manual_seed(0)
    x = 5 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    y = 5 * torch.randn(5, 4, generator=generator, dtype=torch.float64) + 3
    metric = CMMD(nn.Identity())
    metric.update(x)
    metric.update(y, real=True)
    means = [
        np.mean([kernel(a, b) for a in one.numpy() for b in other.numpy()]) for one, other in ((x, x), (y, y), (x, y))
    ]
    assert metric.report().values == {"cmmd_custom": pytest.approx(1000 * (means[0] + means[1] - 2 * means[2]))}
    assert metric.better() == {"cmmd_custom": False}


def test_equal_sets_are_at_zero_and_an_empty_one_nowhere():
    metric, x = CMMD(nn.Identity()), torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    metric.update(x)
    assert math.isnan(metric.report().values["cmmd_custom"])
    metric.update(x, real=True)
    assert abs(metric.report().values["cmmd_custom"]) < 1e-9
