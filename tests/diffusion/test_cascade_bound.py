"""The bound of a cascade: its parts against closed forms and against NumPy, with the same noise."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tenshot.diffusion import Denoiser, DiffusionConfig, GaussianDiffusion, bits_per_dim, cascade_bits_per_dim
from tenshot.errors import InputError

FEW = DiffusionConfig(num_steps=12, schedule="cosine", variance="learned")


@pytest.mark.parametrize("s", [1, 5, 11, 12])
def test_above_s_a_perfect_model_costs_what_the_noised_image_tells_of_the_clean_one(gaussian_data, s: int):
    """E log q(x_s | x_0) / p(x_s), the mutual information of Gaussians; 12 steps lie far enough apart to tell them."""
    process, std = GaussianDiffusion(FEW), 0.4
    data = gaussian_data(FEW, mean=0.1, std=std)
    x0 = 0.1 + std * torch.randn(400, 3, 8, 8, dtype=torch.float64)
    network = data.with_variance(process.timestep_map)
    bits = bits_per_dim(Denoiser(process, network), x0, above=s, clip_denoised=False)
    a = process.alphas_cumprod[s - 1]
    expected = 0.5 * math.log2(1 + std**2 * a / (1 - a))
    assert bits.total.mean().item() == pytest.approx(expected, abs=0.01)
    assert bits.vb.shape == (400, 12 - s)


def test_at_0_it_is_the_usual_bound_and_elsewhere_its_upper_part():
    process = GaussianDiffusion(FEW)
    x0, noises = torch.rand(3, 1, 4, 4, dtype=torch.float64) * 2 - 1, torch.randn(12, 3, 1, 4, 4, dtype=torch.float64)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([0.5 * x, -1 - 0.1 * t.to(x).view(-1, 1, 1, 1) + 0 * x], dim=1)

    def part(s: int) -> tuple[Tensor, ...]:
        drawn = iter(noises)
        return bits_per_dim(Denoiser(process, network), x0, above=s, randn=lambda x: next(drawn))

    whole, upper = part(0), part(5)
    assert torch.equal(upper.vb, whole.vb[:, 5:])
    assert torch.equal(upper.mse, whole.mse[:, 5:])
    assert torch.equal(upper.total, whole.vb[:, 5:].sum(1) + whole.prior)


def test_s_of_a_shorter_process_is_counted_in_the_whole_one():
    short = GaussianDiffusion(FEW).respace("4")
    denoiser = Denoiser(short, lambda x, t: torch.cat([x, x - 3], dim=1))
    x0 = torch.zeros(1, 1, 2, 2)
    kept = short.timestep_map[1]
    assert bits_per_dim(denoiser, x0, above=kept + 1).vb.shape == (1, 2)
    missing = next(s for s in range(1, 13) if s - 1 not in short.timestep_map)
    for s in (missing, 13, -1):
        with pytest.raises(InputError, match=f"no bound above s = {s}: the process has 4 of 12 steps"):
            bits_per_dim(denoiser, x0, above=s)


# A tiny cascade in NumPy

BASE = DiffusionConfig(num_steps=5, schedule="cosine", variance="fixed_small")
STAGE = DiffusionConfig(num_steps=4, schedule="cosine", variance="fixed_small")


def nats(
    x0: np.ndarray, config: DiffusionConfig, alpha_bar: np.ndarray, eps: Callable, noises: np.ndarray, s: int
) -> float:
    """L_T and the terms of the steps t = s+1 … T of one image: CDM, section 4, and DDPM, eqs. 5 to 7 and 13."""
    a = np.append(1.0, alpha_bar)
    last = len(a) - 1
    total = 0.5 * np.sum(a[last] * x0**2 + (1 - a[last]) - 1 - np.log(1 - a[last]))

    def small_variance(t: int) -> float:
        return (1 - a[t - 1]) / (1 - a[t]) * (1 - a[t] / a[t - 1])

    def cdf(v: np.ndarray) -> np.ndarray:
        return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))

    for t, noise in zip(range(last, s, -1), noises, strict=False):
        x_t = np.sqrt(a[t]) * x0 + np.sqrt(1 - a[t]) * noise
        guess = np.clip((x_t - np.sqrt(1 - a[t]) * eps(x_t, t)) / np.sqrt(a[t]), -1, 1)
        beta = 1 - a[t] / a[t - 1]
        of_x0, of_x_t = np.sqrt(a[t - 1]) * beta / (1 - a[t]), np.sqrt(1 - beta) * (1 - a[t - 1]) / (1 - a[t])
        mean, variance = of_x0 * guess + of_x_t * x_t, small_variance(max(t, 2))
        if t > 1:
            total += np.sum((of_x0 * (x0 - guess)) ** 2) / (2 * variance)
        else:
            high, low = ((x0 - mean + half) / np.sqrt(variance) for half in (1 / 255, -1 / 255))
            upper = np.where(x0 > 0.999, 1, cdf(high))
            total -= np.log(np.maximum(upper - np.where(x0 < -0.999, 0, cdf(low)), 1e-12)).sum()
    return float(total)


@pytest.mark.parametrize("s", [0, 1, 3, 5])
def test_equals_a_computation_in_numpy(reference_alpha_bar, s: int):
    """Two stages, 2 x 2 and 4 x 4 pixels, of which one is black and one white."""
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(256, (2, 1, 4, 4), generator=generator)
    levels[:, 0, 0, 0], levels[:, 0, 0, 1] = 0, 255
    x0 = levels.double() / 127.5 - 1
    z0 = ((levels[..., ::2, ::2]).double() / 127.5 - 1).clone()
    z_noises, x_noises = (torch.randn(8, 2, 1, side, side, generator=generator, dtype=torch.float64) for side in (2, 4))
    base_a, stage_a = reference_alpha_bar(BASE), reference_alpha_bar(STAGE)
    level = np.append(1.0, base_a)[s]
    z_s = math.sqrt(level) * z0 + math.sqrt(1 - level) * z_noises[-1]

    def stage_network(x: Tensor, t: Tensor, low_res: Tensor) -> Tensor:
        return 0.7 * x - 0.2 * low_res.repeat_interleave(2, 2).repeat_interleave(2, 3) + 0.01 * t.view(-1, 1, 1, 1)

    def replay(noises: Tensor) -> Callable[[Tensor], Tensor]:
        drawn = iter(noises)
        return lambda x: next(drawn)

    base = Denoiser(GaussianDiffusion(BASE), lambda x, t: 0.6 * x + 0.01 * t.view(-1, 1, 1, 1))
    stage = Denoiser(GaussianDiffusion(STAGE), stage_network)
    base_bits = bits_per_dim(base, z0, above=s, randn=replay(z_noises)).total
    stage_bits = bits_per_dim(stage, x0, {"low_res": z_s}, randn=replay(x_noises)).total
    ours = cascade_bits_per_dim([(base_bits, 4), (stage_bits, 16)])

    for i in range(2):
        big = np.kron(z_s[i, 0].numpy(), np.ones((2, 2)))
        of_base = nats(
            z0[i, 0].numpy(), BASE, base_a, lambda x, t: 0.6 * x + 0.01 * (t - 1), z_noises[:, i, 0].numpy(), s
        )
        of_stage = nats(
            x0[i, 0].numpy(), STAGE, stage_a,
            lambda x, t, big=big: 0.7 * x - 0.2 * big + 0.01 * (t - 1), x_noises[:, i, 0].numpy(), 0,
        )  # fmt: skip
        assert base_bits[i].item() == pytest.approx(of_base / (4 * math.log(2)), rel=1e-9)
        assert stage_bits[i].item() == pytest.approx(of_stage / (16 * math.log(2)), rel=1e-9)
        assert ours[i].item() == pytest.approx((of_base + of_stage) / (16 * math.log(2)), rel=1e-9)
