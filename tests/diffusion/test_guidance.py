import math

import pytest
import torch
from torch import Tensor, nn

from tenshot.diffusion import (
    Denoiser,
    DiffusionConfig,
    GaussianDiffusion,
    Guided,
    classifier_guidance,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver,
)


class Classifier(nn.Module):
    """Linear logits whose size depends on t, so that the gradient is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 3 * 4 * 4))
        self.rate = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return (1 + self.rate * t.view(-1, 1)) * (x.flatten(1) @ self.weight.T)


def test_gradient_is_that_of_the_chosen_log_probability_times_the_scale():
    classifier, x, t, labels = Classifier(), torch.randn(2, 3, 4, 4), torch.tensor([0, 1]), torch.tensor([4, 1])
    with torch.no_grad():
        gradient = classifier_guidance(classifier, labels, scale=2.5)(x, t)
    weight = classifier.weight.detach()
    for n in range(2):
        probability = classifier(x, t)[n].softmax(0).detach()
        expected = 2.5 * (1 + t[n]) * (weight[labels[n]] - probability @ weight)
        torch.testing.assert_close(gradient[n].flatten(), expected, rtol=1e-4, atol=1e-5)
    assert classifier.weight.grad is None
    assert not gradient.requires_grad


@pytest.mark.parametrize("t", [(0, 1), (0.0, 0.5)])
def test_works_where_everything_was_born_in_inference_mode(t):
    classifier = Classifier()
    with torch.inference_mode():
        x, t, labels = torch.randn(2, 3, 4, 4), torch.tensor(t), torch.tensor([4, 1])
        inside = classifier_guidance(classifier, labels, 1.0)(x, t)
    assert torch.equal(inside, classifier_guidance(classifier, labels, 1.0)(x.clone(), t.clone()))
    assert inside.abs().max() > 0.1


def test_log_softmax_is_float32_with_a_bfloat16_classifier():
    # All 1024 logits are alike and move together, so nothing can be gained. In bfloat16 the log-probability -6.931
    # becomes -6.9375, and the probabilities add up to 0.994.
    guidance = classifier_guidance(lambda x, t: x.flatten(1).expand(-1, 1024).bfloat16(), torch.tensor([3]), 1.0)
    gradient = guidance(torch.zeros(1, 1, 1, 1), torch.tensor([0]))
    assert gradient.dtype == torch.float32
    assert gradient.abs().max() < 2e-3


class Observation:
    """Standard normal data seen through noise of deviation 0.5, with the value 0.8: all of it is Gaussian."""

    value, noise = 0.8, 0.5
    mean, std = 0.8 / 1.25, math.sqrt(0.25 / 1.25)

    def __init__(self, alpha_bar: Tensor) -> None:
        self.alpha_bar = alpha_bar

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        a = self.alpha_bar[t].view(-1, 1, 1, 1)
        return a.sqrt() * (self.value - a.sqrt() * x) / (1 - a + self.noise**2)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver"])
def test_guided_chains_sample_the_posterior_given_the_observation(gaussian_data, reference_alpha_bar, sampler):
    config = DiffusionConfig(variance="fixed_large")  # right for data of deviation 1
    denoiser = Denoiser(GaussianDiffusion(config), gaussian_data(config, mean=0.0, std=1.0))
    guided = Guided(denoiser, Observation(torch.tensor(reference_alpha_bar(config))))
    noise = torch.randn(5000, 1, 1, 1, dtype=torch.float64)
    if sampler == "ddim":
        x = sample_ddim(guided.respace("250"), noise, clip_denoised=False)
    elif sampler == "dpm_solver":
        x = sample_dpm_solver(guided, noise, 20, clip_denoised=False)
    else:
        x = sample_ddpm(guided, noise, clip_denoised=False)
    assert abs(x.mean().item() - Observation.mean) < 0.03
    assert abs(x.std().item() / Observation.std - 1) < 0.05


def test_the_gradient_is_taken_at_the_noisy_images_and_their_own_time():
    process = GaussianDiffusion(DiffusionConfig(variance="fixed_large")).respace("ddim4")
    inputs: list[Tensor] = []
    asked: list[tuple[Tensor, list[int]]] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        inputs.append(x)
        return 0.5 * x

    def guidance(x: Tensor, t: Tensor) -> Tensor:
        asked.append((x, t.tolist()))
        return torch.zeros_like(x)

    sample_ddpm(Guided(Denoiser(process, network), guidance), torch.randn(2, 3, 4, 4))
    assert [t for _, t in asked] == [[t, t] for t in (750, 500, 250, 0)]
    for x, (given, _) in zip(inputs, asked, strict=True):
        assert given is x


@pytest.mark.parametrize("variance", ["learned_range", "fixed_large"])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "previous", "velocity"])
def test_the_guided_clean_images_and_output_are_those_of_the_shifted_noise(prediction, variance):
    """ADM, algorithm 2: eps - sqrt(1 - alpha-bar) * gradient.."""
    process = GaussianDiffusion(DiffusionConfig(variance=variance, prediction=prediction))
    outputs, pull = 2 if process.learns_variance else 1, torch.randn(2, 3, 4, 4, dtype=torch.float64)
    denoiser = Denoiser(process, lambda x, t: torch.cat([torch.tanh(x), torch.cos(x)][:outputs], dim=1))
    guided = Guided(denoiser, lambda x, t: pull)
    x, t, alpha_bar = torch.randn_like(pull), torch.tensor([100, 700]), torch.tensor(process.alphas_cumprod)
    signal, noise = (level[[100, 700]].view(2, 1, 1, 1) for level in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))

    eps = (x - signal * denoiser.x0(x, t)) / noise - noise * pull
    expected = (x - noise * eps) / signal
    torch.testing.assert_close(guided.x0(x, t), expected, rtol=1e-9, atol=1e-9)
    output, plain = guided.output(x, t), denoiser.output(x, t)
    torch.testing.assert_close(process.x0(output, x, t), expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(output[:, 3:], plain[:, 3:])
    torch.testing.assert_close(guided.x0_eps(x, t, clip_denoised=False), (expected, eps), rtol=1e-9, atol=1e-9)
