import math

import pytest
import torch
from torch import Tensor

from tenshot.diffusion import Denoiser, DiffusionConfig, GaussianDiffusion, bits_per_dim


@pytest.mark.parametrize("spec", ["", "10"])
def test_the_bound_of_a_perfect_model_is_the_entropy_of_the_data(gaussian_data, spec):
    config = DiffusionConfig(num_steps=50, schedule="cosine", variance="learned")
    process = GaussianDiffusion(config).respace(spec)
    data = gaussian_data(config, mean=0.1, std=0.2)
    x0 = 0.1 + 0.2 * torch.randn(200, 3, 8, 8, dtype=torch.float64)
    bound = bits_per_dim(Denoiser(process, data.with_variance(process.timestep_map)), x0, clip_denoised=False)
    entropy = 0.5 * math.log2(2 * math.pi * math.e * 0.2**2) - math.log2(2 / 255)
    assert abs(bound.total.mean() - entropy) < 0.03
    torch.testing.assert_close(bound.total, bound.vb.sum(1) + bound.prior)
    assert bound.vb.shape == (200, process.num_steps)


def test_a_worse_model_has_a_higher_bound(gaussian_data):
    config = DiffusionConfig(num_steps=50, schedule="cosine", variance="fixed_large")
    x0 = 0.3 + 0.2 * torch.randn(50, 1, 8, 8, dtype=torch.float64)
    right, wrong = (gaussian_data(config, mean=mean, std=0.2) for mean in (0.3, -0.1))
    totals = [bits_per_dim(Denoiser(GaussianDiffusion(config), network), x0).total.mean() for network in (right, wrong)]
    assert totals[1] > totals[0] + 0.1


def test_prior_term_is_what_the_last_step_leaves():
    process = GaussianDiffusion(DiffusionConfig())
    x0 = torch.rand(4, 3, 8, 8) * 2 - 1
    a = process.alphas_cumprod[-1]
    expected = 0.5 * (a * x0.double().square().mean(dim=(1, 2, 3)) - a - math.log(1 - a)) / math.log(2)
    torch.testing.assert_close(process.prior_bpd(x0.double()), expected)
    torch.testing.assert_close(process.prior_bpd(x0).double(), expected, atol=1e-7, rtol=0)


def test_series_are_indexed_by_step_and_noise_is_drawn_from_the_last_one_down():
    config = DiffusionConfig(num_steps=30, schedule="cosine", variance="fixed_large")
    process, x0, drawn = GaussianDiffusion(config), torch.rand(2, 1, 4, 4) * 2 - 1, []

    def randn(x: Tensor) -> Tensor:
        drawn.append(torch.randn_like(x))
        return drawn[-1]

    def network(x: Tensor, t: Tensor) -> Tensor:
        return x * (0.5 + t.view(-1, 1, 1, 1) / 100)

    bound = bits_per_dim(Denoiser(process, network), x0, randn=randn, clip_denoised=False)
    assert len(drawn) == 30
    for step in (0, 1, 29):
        t, noise = torch.full((2,), step), drawn[29 - step]
        x_t = process.q_sample(x0, t, noise)
        output = network(x_t, t)
        torch.testing.assert_close(bound.vb[:, step], process.vlb_terms(output, x0, x_t, t))
        torch.testing.assert_close(bound.mse[:, step], (output - noise).square().mean(dim=(1, 2, 3)), rtol=1e-4, atol=0)
        x0_error = (process.predict_x0(x_t, t, output) - x0).square().mean(dim=(1, 2, 3))
        torch.testing.assert_close(bound.x0_mse[:, step], x0_error)


def test_bits_are_counted_in_float32_without_a_graph():
    process = GaussianDiffusion(DiffusionConfig(num_steps=30, schedule="cosine", variance="fixed_large"))
    weight = torch.ones(1, requires_grad=True)
    bound = bits_per_dim(Denoiser(process, lambda x, t: weight * x), torch.zeros(2, 1, 4, 4).bfloat16())
    assert all((series.dtype, series.requires_grad) == (torch.float32, False) for series in bound)


def test_clipping_is_on_by_default():
    process = GaussianDiffusion(DiffusionConfig(num_steps=30, schedule="cosine", variance="fixed_large"))
    x0 = torch.rand(2, 1, 4, 4) * 2 - 1
    bound = bits_per_dim(Denoiser(process, lambda x, t: -x), x0)
    assert bound.x0_mse.max() <= 4
    assert bits_per_dim(Denoiser(process, lambda x, t: -x), x0, clip_denoised=False).x0_mse.max() > 100
