"""Schedules, and which timesteps are kept or drawn, against the official code."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tenshot.diffusion import (
    LossAwareTimesteps,
    space_timesteps,
)
from tenshot.diffusion.schedules import cosine_betas, linear_betas
from tenshot.errors import InputError


def test_schedules(theirs: SimpleNamespace):
    named = theirs.gaussian_diffusion.get_named_beta_schedule
    for steps in (21, 100, 1000, 3000, 4000):
        np.testing.assert_allclose(linear_betas(steps), named("linear", steps), rtol=1e-12)
        np.testing.assert_allclose(cosine_betas(steps), named("cosine", steps), rtol=1e-9, atol=1e-14)


def test_space_timesteps(theirs: SimpleNamespace):
    generator = np.random.default_rng(0)
    lists = [",".join(map(str, generator.integers(1, 60, size=generator.integers(1, 6)))) for _ in range(60)]
    compared = 0
    for num_steps in (50, 100, 999, 1000, 4000):
        single = [str(n) for n in range(1, num_steps + 1, 7)] + [f"ddim{n}" for n in range(2, 60)]
        for spec in [*single, *lists, "90,60,60,20,20", str(num_steps)]:
            try:
                expected = sorted(theirs.respace.space_timesteps(num_steps, spec))
            except ValueError:
                with pytest.raises(InputError):
                    space_timesteps(num_steps, spec)
            else:
                assert space_timesteps(num_steps, spec) == expected
                compared += 1
    assert compared > 1000


def test_loss_aware_timesteps(theirs, monkeypatch):
    monkeypatch.setattr(np, "int", int, raising=False)  # an alias that numpy has dropped
    other = theirs.resample.LossSecondMomentResampler(SimpleNamespace(num_timesteps=20))
    ours = LossAwareTimesteps(20)
    rng = np.random.default_rng(0)
    for _ in range(40):
        t, losses = rng.integers(20, size=32), rng.exponential(size=32)
        ours.update(torch.tensor(t), torch.tensor(losses))
        other.update_with_all_losses(t.tolist(), losses.tolist())
        weights = other.weights()
        np.testing.assert_allclose(ours.probabilities().numpy(), weights / weights.sum(), rtol=1e-9)
    assert weights.std() > 0
