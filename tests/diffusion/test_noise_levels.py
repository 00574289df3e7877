"""Networks that are told the noise level: closed forms, and samplers at steps that no training grid has."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from scipy.stats import kstest
from torch import Tensor

from tenshot.diffusion import (
    Denoiser,
    DiffusionConfig,
    GaussianDiffusion,
    bits_per_dim,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver,
)
from tenshot.lightning_modules import Sampler

LEVELS = {"variance": "fixed_large", "time": "noise_level"}
STEPS = 100


def process(**changes: Any) -> GaussianDiffusion:
    return GaussianDiffusion(DiffusionConfig(**({"num_steps": STEPS, "schedule": "cosine"} | LEVELS | changes)))


def test_in_training_the_signal_is_uniform_between_a_step_and_the_one_before():
    diffusion, n = process(), 4000
    signal = np.append(1.0, diffusion.sqrt_alphas_cumprod)
    for step in (0, 1, 60, STEPS - 1):
        torch.manual_seed(step)
        t = diffusion.training_time(torch.full((n,), step))
        told = diffusion.model_timesteps(t).double() / 1000
        low, high = signal[step + 1], signal[step]
        assert kstest(told.numpy(), "uniform", args=(low, high - low)).pvalue > 0.01
        x0, noise = torch.rand(n, 1, 1, 1) * 2 - 1, torch.randn(n, 1, 1, 1)
        expected = told.view(-1, 1, 1, 1) * x0 + (1 - told.square()).sqrt().view(-1, 1, 1, 1) * noise
        torch.testing.assert_close(diffusion.q_sample(x0, t, noise).double(), expected, atol=2e-4, rtol=0)


def test_at_a_step_it_is_what_a_timestep_is():
    """Told as 1000 sqrt(alpha-bar); all that is of fractional steps meets the tables at the steps."""
    diffusion, like = process(), torch.zeros(1, dtype=torch.float64)
    t = torch.arange(STEPS)
    told = diffusion.model_timesteps(t)
    np.testing.assert_allclose(told, 1000 * np.sqrt(np.cumprod(1 - diffusion.betas)), rtol=1e-6)
    for name in (
        "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod", "alphas_cumprod", "one_minus_alphas_cumprod",
    ):  # fmt: skip
        between = diffusion._tables.between(name, t.double(), like)
        torch.testing.assert_close(between, diffusion._tables.at(name, t, like), rtol=1e-9, atol=0)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "velocity"])
def test_the_clean_image_comes_back_from_every_prediction(prediction: Any):
    diffusion = process(prediction=prediction)
    torch.manual_seed(0)
    x0, noise = torch.rand(50, 3, 2, 2).double() * 2 - 1, torch.randn(50, 3, 2, 2).double()
    t = diffusion.training_time(torch.arange(50) + 10)
    x_t = diffusion.q_sample(x0, t, noise)
    torch.testing.assert_close(diffusion.x0(diffusion.target(x0, x_t, t, noise), x_t, t), x0, atol=1e-9, rtol=0)


class Exact:
    """The noise in x_t of pixels from N(0.3, 0.2^2), for whatever noise level it is told; notes the levels."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def __call__(self, x: Tensor, time: Tensor) -> Tensor:
        signal = time.double().view(-1, 1, 1, 1) / 1000
        self.told.append(signal[0].item())
        rest = 1 - signal.square()
        mean = 0.3 + 0.04 * signal * (x - signal * 0.3) / (0.04 * signal.square() + rest)
        return (x - signal * mean) / rest.sqrt()


SAMPLERS: dict[str, Callable[[Denoiser, Tensor, int], Tensor]] = {
    "ddpm": lambda denoiser, x, n: sample_ddpm(denoiser.respace(str(n)), x, clip_denoised=False),
    "ddim": lambda denoiser, x, n: sample_ddim(denoiser.respace(str(n)), x, clip_denoised=False),
    "dpm_solver": lambda denoiser, x, n: sample_dpm_solver(denoiser, x, n, clip_denoised=False),
}


@pytest.mark.parametrize("steps", [37, 250])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_take_any_number_of_steps_off_the_training_grid(sampler: str, steps: int):
    """More than training had too; the samples have the mean and the spread of the data."""
    network = Exact()
    torch.manual_seed(0)
    samples = SAMPLERS[sampler](Denoiser(process(), network), torch.randn(500, 1, 2, 2).double(), steps)
    grid = process().sqrt_alphas_cumprod
    off = [level for level in network.told if np.abs(grid - level).min() > 1e-5 * level]
    assert len(network.told) == steps
    assert len(off) > 0.5 * steps
    assert np.all(np.diff(network.told) > 0)
    assert network.told[0] == pytest.approx(grid[-1], rel=1e-5)
    assert network.told[-1] == pytest.approx(grid[0], rel=1e-5)
    assert samples.mean() == pytest.approx(0.3, abs=0.03)
    assert samples.std() == pytest.approx(0.2, abs=0.03)


def test_the_options_of_a_sampler_go_beyond_the_training_steps():
    for method in ("ddpm", "ddim", "dpm_solver"):
        assert Sampler(method, 2000).for_process(process()).steps == 2000  # type: ignore[arg-type]
        tiny.refusal(
            lambda method=method: Sampler(method, 1).for_process(process()), "sampler.steps is 1", "at least 2"
        )


@pytest.mark.parametrize("method", ["ddpm", "ddim", "dpm_solver"])
def test_a_method_trains_and_draws_with_it(tmp_path: Any, method: Any):
    network = tiny.unet_config(out_channels=3)
    module = tiny.ddpm(unet=network, diffusion=DiffusionConfig(num_steps=20, schedule="cosine", **LEVELS))
    module.sampler = Sampler(method, 3)
    if method == "ddpm":
        tiny.trainer(tmp_path, 1).fit(module, tiny.faces())
    tiny.randomised(module)
    assert module.sample(torch.arange(1)).isfinite().all()
    assert bits_per_dim(module.denoiser.respace("3"), torch.zeros(1, 3, 16, 16)).total.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"variance": "learned_range"}, "variance learned_range"),
        ({"prediction": "previous"}, "prediction previous"),
        ({"rescale_timesteps": True}, "rescale_timesteps True"),
        ({"time": "noise"}, "time 'noise' is unknown"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], word: str):
    tiny.refusal(lambda: process(**changes), word)


def test_the_bound_is_of_timesteps():
    levels = DiffusionConfig(schedule="cosine", **LEVELS)  # type: ignore[arg-type]
    tiny.refusal(
        lambda: tiny.ddpm(unet=tiny.unet_config(out_channels=3), diffusion=levels, objective="vlb"), "objective vlb"
    )
