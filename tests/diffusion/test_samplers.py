import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tenshot.diffusion import Denoiser, DiffusionConfig, GaussianDiffusion, ddim_encode, sample_ddim, sample_ddpm

N = 20_000


def normal(n: int = N) -> Tensor:
    return torch.randn(n, 1, 1, 1, dtype=torch.float64)


def replay(recorded: list[Tensor]) -> Callable[[Tensor], Tensor]:
    noises = iter(recorded)
    return lambda x: next(noises)


def assert_distributed(x: Tensor, mean: float, std: float) -> None:
    assert abs(x.mean().item() - mean) < 5 * std / math.sqrt(x.numel())
    assert abs(x.std().item() / std - 1) < 0.03


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("spec", ["5", "ddim25", "20,10"])
def test_ancestral_chain_of_a_perfect_network_with_perfect_variance_gives_the_data(gaussian_data, schedule, spec):
    config = DiffusionConfig(schedule=schedule, variance="learned")
    process = GaussianDiffusion(config).respace(spec)
    network = gaussian_data(config).with_variance(process.timestep_map)
    assert_distributed(sample_ddpm(Denoiser(process, network), normal(), clip_denoised=False), 0.3, 0.4)


def test_beta_is_the_right_variance_for_standard_normal_data(gaussian_data):
    config = DiffusionConfig(variance="fixed_large")
    x = sample_ddpm(
        Denoiser(GaussianDiffusion(config), gaussian_data(config, 0.0, 1.0)), normal(5000), clip_denoised=False
    )
    assert_distributed(x, 0.0, 1.0)
    config = DiffusionConfig(variance="fixed_small")
    x = sample_ddpm(
        Denoiser(GaussianDiffusion(config).respace("20"), gaussian_data(config, 0.0, 1.0)),
        normal(5000),
        clip_denoised=False,
    )
    assert x.std() < 0.95


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_deterministic_ddim_follows_the_exact_flow_of_the_marginals(gaussian_data, schedule):
    config = DiffusionConfig(schedule=schedule, variance="fixed_large")
    data, noise = gaussian_data(config), normal(500)
    exact = data.exact_ode(noise)
    errors = [
        (sample_ddim(Denoiser(GaussianDiffusion(config).respace(spec), data), noise, clip_denoised=False) - exact)
        .abs()
        .mean()
        for spec in ("20", "100", "500")
    ]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]  # first order
    assert errors[2] < 3e-3


@pytest.mark.parametrize("spec", ["", "ddim25", "10,5"])
def test_ddim_with_eta_1_is_ancestral_sampling_with_the_posterior_variance(spec):
    process = GaussianDiffusion(DiffusionConfig(num_steps=100, variance="fixed_small")).respace(spec)
    noise, *recorded = (torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(process.num_steps))

    def network(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(3 * x + t.view(-1, 1, 1, 1))

    torch.testing.assert_close(
        sample_ddim(Denoiser(process, network), noise, eta=1.0, randn=replay(recorded)),
        sample_ddpm(Denoiser(process, network), noise, randn=replay(recorded)),
    )


def test_ddim_update_written_out(reference_alpha_bar):
    config = DiffusionConfig(num_steps=100, schedule="cosine")
    process = GaussianDiffusion(config).respace("7")
    kept = reference_alpha_bar(config)[list(process.timestep_map)]
    start, *recorded = (torch.randn(2, 1, 3, 3, dtype=torch.float64) for _ in range(7))

    def network(x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([torch.cos(5 * x) * (1 + t.view(-1, 1, 1, 1) / 100), x], dim=1)

    x, zs = start.numpy(), iter(recorded)
    for i in reversed(range(7)):
        eps = network(torch.tensor(x), torch.full((2,), process.timestep_map[i]))[:, :1].numpy()
        a, b = kept[i], kept[i - 1] if i else 1.0
        x0 = ((x - np.sqrt(1 - a) * eps) / np.sqrt(a)).clip(-1, 1)
        eps = (x - np.sqrt(a) * x0) / np.sqrt(1 - a)
        sigma = 0.6 * np.sqrt((1 - b) / (1 - a)) * np.sqrt(1 - a / b)
        x = np.sqrt(b) * x0 + np.sqrt(1 - b - sigma**2) * eps
        if i:
            x = x + sigma * next(zs).numpy()
    ours = sample_ddim(Denoiser(process, network), start, eta=0.6, randn=replay(recorded))
    np.testing.assert_allclose(ours.numpy(), x, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("eta", [1.0, 1.5])
@pytest.mark.parametrize("count", [4, 6, 10])
def test_coarse_cosine_steps_with_much_noise_stay_finite(eta, count):
    process = GaussianDiffusion(DiffusionConfig(num_steps=4000, schedule="cosine", variance="fixed_large"))
    x = sample_ddim(Denoiser(process.respace(str(count)), lambda x, t: 0.9 * x), torch.randn(2, 3, 4, 4), eta=eta)
    assert x.isfinite().all()


@pytest.mark.parametrize("sampler", [sample_ddpm, sample_ddim])
def test_clipping_keeps_the_samples_among_images(sampler):
    process = GaussianDiffusion(DiffusionConfig(variance="fixed_large")).respace("10")
    noise = torch.randn(4, 3, 4, 4)
    assert sampler(Denoiser(process, lambda x, t: -x), noise).abs().max() <= 1 + 1e-6
    assert sampler(Denoiser(process, lambda x, t: -x), noise, clip_denoised=False).abs().max() > 10


def test_step_noise_is_drawn_once_for_every_step_but_the_last():
    process = GaussianDiffusion(DiffusionConfig(variance="fixed_large")).respace("10")
    drawn = []

    def randn(x: Tensor) -> Tensor:
        drawn.append(x)
        return torch.zeros_like(x)

    def count(sampler: Callable, **options: float) -> int:
        drawn.clear()
        sampler(Denoiser(process, lambda x, t: x), torch.randn(2, 3, 4, 4), randn=randn, **options)
        assert all(x.shape == (2, 3, 4, 4) for x in drawn)
        return len(drawn)

    assert (count(sample_ddpm), count(sample_ddim, eta=0.5), count(sample_ddim)) == (9, 9, 0)


@pytest.mark.parametrize("sampler", [sample_ddpm, sample_ddim, ddim_encode])
def test_the_network_gets_original_times_and_progress_is_told(sampler, gaussian_data):
    config = DiffusionConfig(variance="fixed_large")
    data, told = gaussian_data(config), []
    process = GaussianDiffusion(config).respace("ddim4")
    sampler(Denoiser(process, data), torch.randn(2, 1, 1, 1), progress=lambda *args: told.append(args))
    times = [750, 500, 250, 0] if sampler is not ddim_encode else [0, 250, 500, 750]
    assert [t.tolist() for t in data.called_with] == [[t, t] for t in times]
    assert [(done, total) for done, total, _ in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(x0.shape == (2, 1, 1, 1) for *_, x0 in told)


def test_progress_shows_the_clean_image_emerge(gaussian_data):
    config = DiffusionConfig(variance="fixed_large")
    shown: list[Tensor] = []
    x = sample_ddim(
        Denoiser(GaussianDiffusion(config).respace("20"), gaussian_data(config)),
        normal(50),
        progress=lambda *a: shown.append(a[2]),
    )
    distances = [(x0 - x).abs().mean().item() for x0 in shown]
    assert distances[0] > 0.1
    assert distances[-1] < 1e-6


@pytest.mark.parametrize("sampler", [sample_ddpm, sample_ddim, ddim_encode])
def test_a_bfloat16_network_is_walked_in_float32_without_a_graph(sampler):
    process = GaussianDiffusion(DiffusionConfig(variance="fixed_large")).respace("10")
    weight = torch.ones(1, requires_grad=True)
    seen = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x.dtype)
        return (weight * x).bfloat16()

    x = sampler(Denoiser(process, network), torch.randn(2, 3, 4, 4).bfloat16())
    assert x.dtype == torch.float32
    assert not x.requires_grad
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_encoding_then_decoding_returns_the_image(gaussian_data, schedule):
    config = DiffusionConfig(schedule=schedule, variance="fixed_large")
    data = gaussian_data(config)
    x0 = 0.3 + 0.4 * normal(200)

    def error(spec: str) -> float:
        process = GaussianDiffusion(config).respace(spec)
        code = ddim_encode(Denoiser(process, data), x0)
        return (sample_ddim(Denoiser(process, data), code, clip_denoised=False) - x0).abs().mean().item()

    assert error("") < 5e-3
    assert error("50") > 5 * error("")


def test_the_code_of_data_is_standard_normal_noise(gaussian_data):
    config = DiffusionConfig(schedule="cosine", variance="fixed_large")
    code = ddim_encode(Denoiser(GaussianDiffusion(config), gaussian_data(config)), 0.3 + 0.4 * normal())
    assert_distributed(code, 0.0, 1.0)


def test_the_last_encoding_step_returns_the_networks_noise_and_can_be_left_out(gaussian_data):
    config = DiffusionConfig(variance="fixed_large")
    data, process = gaussian_data(config), GaussianDiffusion(config).respace("50")

    def bad_at_the_end(x: Tensor, t: Tensor) -> Tensor:
        return data(x, t) + 0.3 * (t == 999).view(-1, 1, 1, 1)

    x0 = 0.3 + 0.4 * normal(200)
    good = ddim_encode(Denoiser(process, data), x0)
    torch.testing.assert_close(ddim_encode(Denoiser(process, bad_at_the_end), x0), good + 0.3)
    without = ddim_encode(Denoiser(process, bad_at_the_end), x0, last_step=False)
    torch.testing.assert_close(without, good, atol=5e-3, rtol=0)
