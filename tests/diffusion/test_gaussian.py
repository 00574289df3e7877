"""The process against a reimplementation in numpy, float64, one value at a time."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tenshot.diffusion import DiffusionConfig, GaussianDiffusion
from tenshot.errors import InputError

AlphaBar = Callable[[DiffusionConfig], np.ndarray]
T = torch.tensor([0, 1, 57, 99])


def images(*channels: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(len(T), c, 2, 3, dtype=dtype) for c in channels]


class Reference:
    """Coefficients at one step, from alpha-bar alone."""

    def __init__(self, alpha_bar: np.ndarray, t: int) -> None:
        self.a, self.prev = alpha_bar[t], alpha_bar[t - 1] if t else 1.0
        self.next = alpha_bar[t + 1] if t + 1 < len(alpha_bar) else 0.0
        self.beta = 1 - self.a / self.prev
        self.coef1 = self.beta * np.sqrt(self.prev) / (1 - self.a)
        self.coef2 = (1 - self.prev) * np.sqrt(1 - self.beta) / (1 - self.a)
        self.small = self.beta * (1 - self.prev) / (1 - self.a)
        first = Reference(alpha_bar, 1) if t == 0 else self
        self.log_small, self.large = np.log(first.small), first.small if t == 0 else self.beta

    def tables(self) -> dict[str, float]:
        return {
            "betas": self.beta,
            "alphas_cumprod": self.a,
            "alphas_cumprod_prev": self.prev,
            "alphas_cumprod_next": self.next,
            "sqrt_alphas_cumprod": np.sqrt(self.a),
            "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - self.a),
            "log_one_minus_alphas_cumprod": np.log(1 - self.a),
            "sqrt_recip_alphas_cumprod": np.sqrt(1 / self.a),
            "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / self.a - 1),
            "posterior_variance": self.small,
            "posterior_log_variance_clipped": self.log_small,
            "posterior_mean_coef1": self.coef1,
            "posterior_mean_coef2": self.coef2,
        }


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("spec", ["", "10", "ddim25", "20,10,5"])
def test_tables_follow_from_alpha_bar_at_the_steps_kept(schedule: str, spec: str, reference_alpha_bar: AlphaBar):
    config = DiffusionConfig(num_steps=100, schedule=schedule)
    process = GaussianDiffusion(config).respace(spec)
    kept = reference_alpha_bar(config)[list(process.timestep_map)]
    assert process.num_steps == len(kept) == {"": 100, "10": 10, "ddim25": 25, "20,10,5": 35}[spec]
    for t in range(len(kept)):
        for name, value in Reference(kept, t).tables().items():
            table = getattr(process, name)
            assert table.dtype == np.float64
            np.testing.assert_allclose(table[t], value, rtol=1e-8, atol=1e-14, err_msg=f"{name}[{t}]")


@pytest.mark.parametrize("variance", ["learned_range", "learned", "fixed_small", "fixed_large"])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "previous", "velocity"])
@pytest.mark.parametrize("clip", [True, False])
def test_reverse_step_for_every_kind_of_network(
    variance: str, prediction: str, clip: bool, reference_alpha_bar: AlphaBar
):
    config = DiffusionConfig(num_steps=100, schedule="cosine", variance=variance, prediction=prediction)
    process = GaussianDiffusion(config)
    x_t, first, second = images(2, 2, 2)
    output = torch.cat([first, second], dim=1) if process.learns_variance else first
    step = process.p_mean_variance(output, x_t, T, clip)

    for n, t in enumerate(T.tolist()):
        ref = Reference(reference_alpha_bar(config), t)
        x, out, v = (array[n].numpy() for array in (x_t, first, second))
        if prediction == "epsilon":
            x0 = (x - np.sqrt(1 - ref.a) * out) / np.sqrt(ref.a)
        elif prediction == "x0":
            x0 = out
        elif prediction == "velocity":
            x0 = np.sqrt(ref.a) * x - np.sqrt(1 - ref.a) * out
        else:
            x0 = (out - ref.coef2 * x) / ref.coef1
        x0 = x0.clip(-1, 1) if clip else x0
        mean = out if prediction == "previous" else ref.coef1 * x0 + ref.coef2 * x
        log_variance = {
            "learned_range": (v + 1) / 2 * np.log(ref.beta) + (1 - v) / 2 * ref.log_small,
            "learned": v,
            "fixed_small": np.full_like(x, ref.log_small),
            "fixed_large": np.full_like(x, np.log(ref.large)),
        }[variance]
        var = np.full_like(x, ref.small) if variance == "fixed_small" else np.exp(log_variance)
        for name, value in {"x0": x0, "mean": mean, "variance": var, "log_variance": log_variance}.items():
            np.testing.assert_allclose(
                getattr(step, name)[n].numpy(), value, rtol=1e-7, atol=1e-9, err_msg=f"{name} at {t}"
            )


def test_noising_and_the_true_posterior(reference_alpha_bar: AlphaBar):
    config = DiffusionConfig(num_steps=100)
    process = GaussianDiffusion(config)
    x0, noise = images(2, 2)
    x_t, forward = process.q_sample(x0, T, noise), process.q_mean_variance(x0, T)
    posterior = process.posterior(x0, x_t, T)
    for n, t in enumerate(T.tolist()):
        ref = Reference(reference_alpha_bar(config), t)
        torch.testing.assert_close(x_t[n], ref.a**0.5 * x0[n] + (1 - ref.a) ** 0.5 * noise[n])
        torch.testing.assert_close(forward.mean[n], ref.a**0.5 * x0[n])
        torch.testing.assert_close(forward.variance[n], torch.full_like(x0[n], 1 - ref.a))
        torch.testing.assert_close(forward.log_variance[n], torch.full_like(x0[n], np.log(1 - ref.a)))
        if t > 0:  # Bayes: the product of q(x_t | x_{t-1}) and q(x_{t-1} | x_0), completed to a square in x_{t-1}
            precision = (1 - ref.beta) / ref.beta + 1 / (1 - ref.prev)
            mean = ((1 - ref.beta) ** 0.5 / ref.beta * x_t[n] + ref.prev**0.5 / (1 - ref.prev) * x0[n]) / precision
            torch.testing.assert_close(posterior.mean[n], mean)
            torch.testing.assert_close(posterior.variance[n], torch.full_like(x0[n], 1 / precision))
            torch.testing.assert_close(posterior.log_variance[n], torch.full_like(x0[n], -np.log(precision)))
        else:
            torch.testing.assert_close(posterior.mean[n], x0[n])
            assert posterior.variance[n].abs().max() == 0


def test_x0_and_eps_are_two_views_of_x_t():
    process = GaussianDiffusion(DiffusionConfig(num_steps=100))
    x0, noise = images(3, 3)
    x_t = process.q_sample(x0, T, noise)
    torch.testing.assert_close(process.predict_x0(x_t, T, noise), x0)
    torch.testing.assert_close(process.predict_eps(x_t, T, x0), noise)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "previous", "velocity"])
def test_a_network_that_hits_its_target_sees_the_clean_image(prediction: str):
    process = GaussianDiffusion(DiffusionConfig(num_steps=100, variance="fixed_large", prediction=prediction))
    x0, noise = images(3, 3)
    x_t = process.q_sample(x0, T, noise)
    torch.testing.assert_close(process.x0(process.target(x0, x_t, T, noise), x_t, T), x0)


def test_eps_is_the_first_half_of_a_learned_variance_network_in_full_precision():
    output = torch.randn(2, 6, 4, 4).bfloat16()
    eps = GaussianDiffusion(DiffusionConfig()).eps(output)
    assert eps.dtype == torch.float32
    assert torch.equal(eps, output[:, :3].float())
    whole = GaussianDiffusion(DiffusionConfig(variance="fixed_large")).eps(output)
    assert whole.shape == output.shape


def test_the_network_is_told_the_time_of_the_process_it_was_trained_on():
    whole = GaussianDiffusion(DiffusionConfig(num_steps=4000, schedule="cosine"))
    t = torch.tensor([0, 1, 24])
    assert whole.model_timesteps(t).tolist() == [0, 1, 24]
    assert whole.respace("ddim25").model_timesteps(t).tolist() == [0, 160, 3840]
    assert whole.respace("ddim25").respace("5").timestep_map == (0, 960, 1920, 2880, 3840)


def test_rescaled_time_runs_to_1000_whatever_the_length():
    whole = GaussianDiffusion(DiffusionConfig(num_steps=4000, rescale_timesteps=True))
    times = whole.respace("ddim25").model_timesteps(torch.tensor([0, 1, 24]))
    assert times.dtype == torch.float32
    assert times.tolist() == [0.0, 40.0, 960.0]
    assert whole.model_timesteps(torch.tensor([3])).tolist() == [0.75]


def test_arithmetic_is_float32_under_autocast_and_with_a_bfloat16_network():
    process = GaussianDiffusion(DiffusionConfig(num_steps=100))
    x0, noise = images(1, 1, dtype=torch.float32)
    output = torch.randn(4, 2, 2, 3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        x_t = process.q_sample(x0, T, noise)
        low = process.p_mean_variance(output, x_t, T)
        bits = process.vlb_terms(output, x0, x_t, T)
    high = process.p_mean_variance(output.float(), x_t, T)
    assert torch.equal(x_t, process.q_sample(x0, T, noise))
    assert torch.equal(bits, process.vlb_terms(output.float(), x0, x_t, T))
    for ours, expected in zip(low, high, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "previous", "velocity"])
def test_bfloat16_images_are_taken_to_float32_before_the_arithmetic(prediction: str):
    process = GaussianDiffusion(DiffusionConfig(num_steps=100, variance="fixed_large", prediction=prediction))
    x0, noise, x_t = (image.bfloat16() for image in images(1, 1, 1))

    def results(*inputs: Tensor) -> list[Tensor]:
        x0, noise, x_t = inputs
        return [
            process.q_sample(x0, T, noise),
            *process.q_mean_variance(x0, T),
            *process.posterior(x0, x_t, T),
            process.predict_x0(x_t, T, noise),
            process.predict_eps(x_t, T, x0),
            process.x0(noise, x_t, T),
            process.target(x0, x_t, T, noise),
        ]

    for low, high in zip(results(x0, noise, x_t), results(x0.float(), noise.float(), x_t.float()), strict=True):
        assert low.dtype == torch.float32
        assert torch.equal(low, high)


def test_float32_agrees_with_float64():
    process = GaussianDiffusion(DiffusionConfig(num_steps=100, schedule="cosine"))
    x0, noise, output = images(1, 1, 2)
    double = process.vlb_terms(output, x0, process.q_sample(x0, T, noise), T)
    x0, noise, output = x0.float(), noise.float(), output.float()
    single = process.vlb_terms(output, x0, process.q_sample(x0, T, noise), T)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-6)


def test_tables_first_used_in_inference_mode_serve_training():
    process = GaussianDiffusion(DiffusionConfig(num_steps=100, variance="fixed_large"))
    x0, noise = images(1, 1, dtype=torch.float32)
    with torch.inference_mode():
        process.model_timesteps(T)
        process.vlb_terms(noise, x0, process.q_sample(x0, T, noise), T)
    noise.requires_grad_()
    process.vlb_terms(noise, x0, process.q_sample(x0, process.model_timesteps(T), noise), T).sum().backward()
    assert noise.grad is not None


def test_tables_reach_a_device_once(monkeypatch: pytest.MonkeyPatch):
    process = GaussianDiffusion(DiffusionConfig(num_steps=100))
    x0, noise, output = images(1, 1, 2)
    process.vlb_terms(output, x0, process.q_sample(x0, process.model_timesteps(T), noise), T)
    monkeypatch.setattr(torch, "tensor", None)
    process.p_mean_variance(output, process.q_sample(x0, process.model_timesteps(T), noise), T)


@pytest.mark.parametrize("spec", ["", "ddim25"])
def test_pickles_and_copies_as_its_definition(spec: str):
    process = GaussianDiffusion(DiffusionConfig(num_steps=100, schedule="cosine")).respace(spec)
    x0, noise, output = images(1, 1, 2)
    t = T % 25
    bits = process.vlb_terms(output, x0, process.q_sample(x0, t, noise), t)
    data = pickle.dumps(process)
    assert len(data) < 1000  # no table: one alone is 800 bytes
    for twin in (pickle.loads(data), copy.deepcopy(process)):
        assert twin.config == process.config
        assert twin.timestep_map == process.timestep_map
        assert np.array_equal(twin.betas, process.betas)
        assert torch.equal(twin.vlb_terms(output, x0, twin.q_sample(x0, t, noise), t), bits)


def test_tables_can_not_be_changed_behind_the_copies():
    with pytest.raises(ValueError, match="read-only"):
        GaussianDiffusion(DiffusionConfig()).betas[0] = 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_steps": 20}, "num_steps 20 .*linear.*at least 21"),
        ({"num_steps": 1, "schedule": "cosine"}, "num_steps 1 .*at least 2"),
        ({"schedule": "cosin"}, "schedule 'cosin' .*did you mean 'cosine'"),
        ({"variance": "learned range"}, "variance 'learned range' .*did you mean 'learned_range'.*fixed_small"),
        ({"prediction": "v"}, "prediction 'v' .*epsilon, x0, previous"),
    ],
)
def test_an_impossible_process_is_refused_in_one_line(options: dict, words: str):
    with pytest.raises(InputError, match=words) as error:
        DiffusionConfig(**options)
    assert "\n" not in str(error.value)


def test_a_single_step_can_not_be_sampled():
    with pytest.raises(InputError, match="at least 2"):
        GaussianDiffusion(DiffusionConfig()).respace("1")


def test_a_network_of_the_wrong_width_is_refused():
    x = torch.zeros(4, 3, 2, 2)
    with pytest.raises(InputError, match=r"returns 3 channels.*'learned_range'.*needs 6"):
        GaussianDiffusion(DiffusionConfig()).p_mean_variance(x, x, T)
    with pytest.raises(InputError, match=r"returns 6 channels.*'fixed_small'.*needs 3"):
        GaussianDiffusion(DiffusionConfig(variance="fixed_small")).x0(torch.zeros(4, 6, 2, 2), x, T)
    with pytest.raises(InputError, match="prediction 'x0' gives no noise"):
        GaussianDiffusion(DiffusionConfig(prediction="x0")).eps(x)
