import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from tenshot.diffusion import DiffusionConfig, GaussianDiffusion
from tenshot.errors import InputError
from tenshot.losses import hybrid_loss, vlb_loss


def batch(
    config: DiffusionConfig, *, dtype: torch.dtype = torch.float64
) -> tuple[GaussianDiffusion, dict[str, Tensor]]:
    torch.manual_seed(0)
    process = GaussianDiffusion(config)
    t = torch.tensor([0, 3, config.num_steps // 2, config.num_steps - 1])
    x0, noise = torch.rand(4, 3, 4, 4, dtype=dtype) * 2 - 1, torch.randn(4, 3, 4, 4, dtype=dtype)
    x_t = process.q_sample(x0, t, noise)
    return process, {"x0": x0, "x_t": x_t, "t": t, "noise": noise}


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "previous", "velocity"])
def test_mse_compares_the_prediction_half_with_what_the_network_should_say(prediction):
    process, tensors = batch(DiffusionConfig(num_steps=100, schedule="cosine", prediction=prediction))
    a = torch.tensor(process.alphas_cumprod)[tensors["t"]].view(-1, 1, 1, 1)
    prev = torch.tensor(process.alphas_cumprod_prev)[tensors["t"]].view(-1, 1, 1, 1)
    # the mean of q(x_{t-1} | x_t, x_0), in DDIM's form with sigma^2 the posterior variance
    sigma2 = (1 - prev) / (1 - a) * (1 - a / prev)
    mean = prev.sqrt() * tensors["x0"] + (1 - prev - sigma2).sqrt() * tensors["noise"]
    velocity = a.sqrt() * tensors["noise"] - (1 - a).sqrt() * tensors["x0"]
    target = {"epsilon": tensors["noise"], "x0": tensors["x0"], "previous": mean, "velocity": velocity}[prediction]
    output = torch.randn(4, 6, 4, 4, dtype=torch.float64)
    mse = hybrid_loss(process, output, **tensors)["mse"]
    torch.testing.assert_close(
        mse, torch.stack([(o - s).square().mean() for o, s in zip(output[:, :3], target, strict=True)])
    )


def test_vb_trains_the_variance_alone():
    process, tensors = batch(DiffusionConfig(num_steps=100))
    output = torch.randn(4, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    hybrid_loss(process, output, **tensors)["vb"].sum().backward()
    assert output.grad[:, :3].abs().max() == 0
    assert (output.grad[:, 3:] != 0).all(dim=3).all(dim=2).all(dim=1).all()


def test_vb_gradient_is_that_of_the_kl_in_the_variance():
    process, tensors = batch(DiffusionConfig(num_steps=100))
    output = torch.randn(4, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    hybrid_loss(process, output, **tensors, vlb_weight=0.5)["vb"][1:].sum().backward()

    value = output.detach()[:, 3:].clone().requires_grad_()
    posterior = process.posterior(tensors["x0"], tensors["x_t"], tensors["t"])
    frozen = process.p_mean_variance(output.detach(), tensors["x_t"], tensors["t"], clip_denoised=False)
    beta, small = (
        torch.tensor(table)[tensors["t"]].view(-1, 1, 1, 1)
        for table in (process.betas, process.posterior_log_variance_clipped)
    )
    log_variance = (value + 1) / 2 * beta.log() + (1 - value) / 2 * small
    kl = kl_divergence(
        Normal(posterior.mean[1:], posterior.variance[1:].sqrt()), Normal(frozen.mean[1:], (log_variance[1:] / 2).exp())
    )
    (0.5 * 100 * kl.mean(dim=(1, 2, 3)) / math.log(2)).sum().backward()
    torch.testing.assert_close(output.grad[1:, 3:], value.grad[1:])


@pytest.mark.parametrize(("num_steps", "factor"), [(1000, 1.0), (4000, 4.0)])
def test_the_default_weight_is_adms_at_1000_steps_and_improved_ddpms_at_4000(num_steps, factor):
    process, tensors = batch(DiffusionConfig(num_steps=num_steps, schedule="cosine"))
    output = torch.randn(4, 6, 4, 4, dtype=torch.float64)
    terms = process.vlb_terms(output, tensors["x0"], tensors["x_t"], tensors["t"])
    torch.testing.assert_close(hybrid_loss(process, output, **tensors)["vb"], factor * terms)
    assert hybrid_loss(process, output, **tensors, vlb_weight=0.0)["vb"].abs().max() == 0


def test_a_fixed_variance_has_no_vb():
    process, tensors = batch(DiffusionConfig(num_steps=100, variance="fixed_large"))
    assert set(hybrid_loss(process, torch.randn(4, 3, 4, 4), **tensors)) == {"mse"}


def test_a_perfect_network_costs_nothing_after_the_first_step():
    process, tensors = batch(DiffusionConfig(num_steps=100))
    lowest = torch.full_like(tensors["noise"], -1)  # the variance of the true posterior
    terms = hybrid_loss(process, torch.cat([tensors["noise"], lowest], dim=1), **tensors)
    assert terms["mse"].max() == 0
    assert terms["vb"][1:].abs().max() < 1e-9
    assert terms["vb"][0] > 0.01  # what coding the pixels takes


def test_vlb_loss_is_the_bound_estimated_from_one_term_and_trains_both_halves():
    process, tensors = batch(DiffusionConfig(num_steps=100))
    output = torch.randn(4, 6, 4, 4, dtype=torch.float64, requires_grad=True)
    terms = vlb_loss(process, output, **tensors)
    assert set(terms) == {"vb"}
    del tensors["noise"]
    torch.testing.assert_close(terms["vb"] / 100, process.vlb_terms(output, **tensors))
    terms["vb"].sum().backward()
    assert all(half.abs().flatten(1).max(dim=1).values.min() > 0 for half in output.grad.chunk(2, dim=1))


def test_losses_are_float32_with_a_bfloat16_network_under_autocast():
    process, tensors = batch(DiffusionConfig(num_steps=100), dtype=torch.float32)
    output = torch.randn(4, 6, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        low = hybrid_loss(process, output, **tensors)
    high = hybrid_loss(process, output.float(), **tensors)
    for name in ("mse", "vb"):
        assert low[name].dtype == torch.float32
        assert torch.equal(low[name], high[name])


def test_a_network_of_the_wrong_width_is_refused_rather_than_broadcast():
    process = GaussianDiffusion(DiffusionConfig(num_steps=100, variance="fixed_large"))
    gray, t = torch.randn(2, 1, 4, 4), torch.tensor([1, 2])
    with pytest.raises(InputError, match=r"returns 3 channels.*needs 1"):
        hybrid_loss(process, torch.randn(2, 3, 4, 4), gray, gray, t, gray)
