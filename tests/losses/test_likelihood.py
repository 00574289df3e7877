import math

import torch
from torch.distributions import Normal, kl_divergence

from tenshot.diffusion import DiffusionConfig, GaussianDiffusion
from tenshot.losses.variational import discretized_gaussian_log_likelihood, normal_kl

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def test_kl_is_that_of_the_distributions():
    mean1, mean2, log1, log2 = torch.randn(4, 50, dtype=torch.float64)
    expected = kl_divergence(Normal(mean1, (log1 / 2).exp()), Normal(mean2, (log2 / 2).exp()))
    torch.testing.assert_close(normal_kl(mean1, log1, mean2, log2), expected)


def test_kl_of_nearly_equal_gaussians_survives_float32():
    mean, log_variance = torch.zeros(1000), torch.full((1000,), -9.0)
    kl = normal_kl(mean, log_variance + torch.linspace(-1e-3, 1e-3, 1000), mean, log_variance)
    exact = 0.25 * torch.linspace(-1e-3, 1e-3, 1000).square()
    assert kl.min() >= 0
    torch.testing.assert_close(kl, exact, rtol=1e-2, atol=1e-9)


def test_the_bins_of_all_pixel_values_share_out_the_whole_probability():
    for mean in (-1.3, -0.2, 0.0, 0.999, 1.0):
        for log_scale in (-4.0, -1.0, 1.0):
            parameters = torch.full_like(LEVELS, mean), torch.full_like(LEVELS, log_scale)
            probability = discretized_gaussian_log_likelihood(LEVELS, *parameters).exp().sum()
            assert abs(probability - 1) < 1e-9


def test_each_bin_holds_nearly_what_the_exact_normal_has_there():
    mean, scale = torch.tensor(0.13, dtype=torch.float64), math.exp(-1.5)
    edges = Normal(mean, scale).cdf(torch.cat([LEVELS[:1] - 99, (LEVELS[1:] + LEVELS[:-1]) / 2, LEVELS[-1:] + 99]))
    ours = discretized_gaussian_log_likelihood(LEVELS, mean.expand(256), torch.full((256,), -1.5).double()).exp()
    assert (ours - edges.diff()).abs().max() < 5e-5  # the tanh approximation of the normal CDF


def test_a_hopeless_prediction_costs_a_bounded_amount():
    x, far = torch.tensor([0.0]), torch.tensor([50.0])
    torch.testing.assert_close(
        discretized_gaussian_log_likelihood(x, far, torch.tensor([-5.0])), torch.tensor([math.log(1e-12)])
    )


def test_terms_of_the_bound_are_kl_after_the_first_step_and_pixel_code_length_at_it():
    process = GaussianDiffusion(DiffusionConfig(num_steps=100))
    t = torch.tensor([0, 1, 60])
    x0 = LEVELS[torch.randint(256, (3, 1, 4, 4))]
    x_t = process.q_sample(x0, t, torch.randn_like(x0))
    output = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    bits = process.vlb_terms(output, x0, x_t, t)
    p, q = process.p_mean_variance(output, x_t, t, clip_denoised=False), process.posterior(x0, x_t, t)

    model = Normal(p.mean, p.variance.sqrt())
    code = model.cdf(x0 + 1 / 255) - model.cdf(x0 - 1 / 255)
    code = torch.where(x0 == -1, model.cdf(x0 + 1 / 255), torch.where(x0 == 1, 1 - model.cdf(x0 - 1 / 255), code))
    torch.testing.assert_close(bits[0], -code.clamp(min=1e-12).log2()[0].mean(), rtol=0.02, atol=0)
    kl = kl_divergence(Normal(q.mean[1:], q.variance[1:].sqrt()), Normal(p.mean[1:], p.variance[1:].sqrt()))
    torch.testing.assert_close(bits[1:], kl.mean(dim=(1, 2, 3)) / math.log(2))


def test_clipping_the_clean_image_is_left_to_the_caller():
    process = GaussianDiffusion(DiffusionConfig(num_steps=100))
    t = torch.tensor([60, 99])
    x0 = torch.rand(2, 1, 4, 4) * 2 - 1
    output = torch.randn(2, 2, 4, 4)
    free, clipped = (process.vlb_terms(output, x0, process.q_sample(x0, t, x0), t, clip) for clip in (False, True))
    assert (free > 2 * clipped).all()  # a wild estimate is far outside [-1, 1] at these steps
    assert torch.equal(free, process.vlb_terms(output, x0, process.q_sample(x0, t, x0), t))
