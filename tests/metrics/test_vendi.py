"""Vendi score against its definition and closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tenshot.metrics import VendiScore


def features(count: int, seed: int) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def vendi(samples: Tensor) -> float:
    metric = VendiScore(nn.Identity())
    metric.update(samples)
    return metric.compute().item()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_vendi_counts_images_that_are_quite_different(count: int):
    assert vendi(torch.eye(8)[:count] * 5) == pytest.approx(count)
    assert vendi(torch.eye(8)[:count].repeat(4, 1)) == pytest.approx(count)
    assert vendi(features(1, 0).expand(count, 5)) == pytest.approx(1)


def test_vendi_of_two_images_by_their_angle():
    """Eigenvalues (1 ± c)/2 of two images with the cosine c."""
    c = 0.6
    halves = np.array([1 + c, 1 - c]) / 2
    samples = torch.tensor([[1.0, 0.0], [c, math.sqrt(1 - c**2)]])
    assert vendi(samples) == pytest.approx(math.exp(-(halves * np.log(halves)).sum()))


@pytest.mark.parametrize("count", [3, 5, 40])
def test_vendi_equals_its_definition(count: int):
    x = features(count, 0).double().numpy()
    kernel = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in x] for a in x])
    eigenvalues = np.linalg.eigvalsh(kernel / count)
    entropy = -sum(v * math.log(v) for v in eigenvalues if v > 1e-12)
    assert vendi(features(count, 0)) == pytest.approx(math.exp(entropy), rel=1e-6)


def test_features_of_zeros_have_no_cosine():
    metric = VendiScore(nn.Identity())
    metric.update(torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
    found = metric.report()
    assert math.isnan(found.values["vendi_custom"])
    assert "1 samples have features that are all 0" in found.details["why"]
