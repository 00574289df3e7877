"""Weights of timesteps, against the papers' formulas in float64; and steps drawn by their noise."""

import math
import pickle

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from tenshot.diffusion import DiffusionConfig, GaussianDiffusion, LogNormalNoise, LogNormalTimesteps, LossWeighting
from tenshot.losses import hybrid_loss

CPU = torch.device("cpu")
STEPS = torch.tensor([0, 3, 40, 70, 99])
GAMMA, DATA_STD = 2.0, 0.3
PREDICTIONS = {
    "epsilon": {"prediction": "epsilon"},
    "x0": {"prediction": "x0"},
    "previous": {"prediction": "previous"},
    "velocity": {"prediction": "velocity"},
    "scaled velocity": {"prediction": "velocity", "data_std": 0.5},
}
SCHEMES = {"min_snr": LossWeighting("min_snr", GAMMA), "edm": LossWeighting("edm", data_std=DATA_STD)}


def of_clean_image(scheme: str, kept: np.ndarray) -> np.ndarray:
    """What the papers multiply the clean image's squared error by, where alpha-bar is kept."""
    if scheme == "min_snr":
        return np.minimum(kept / (1 - kept), GAMMA)
    sigma = np.sqrt((1 - kept) / kept)
    return (sigma**2 + DATA_STD**2) / (sigma * DATA_STD) ** 2


def terms_of_estimate(prediction: str, weighting: LossWeighting, estimate: Tensor, x0: Tensor) -> dict[str, Tensor]:
    """The loss of a network that, whatever it predicts, sees that clean image."""
    process = GaussianDiffusion(DiffusionConfig(100, "cosine", **PREDICTIONS[prediction]))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    noise, variance = (torch.randn(x0.shape, dtype=x0.dtype, generator=generator) for _ in range(2))
    x_t = process.q_sample(x0, STEPS, noise)
    said = process.target(estimate, x_t, STEPS, process.predict_eps(x_t, STEPS, estimate))
    weight = weighting.for_process(process)
    return hybrid_loss(process, torch.cat([said, variance], 1), x0, x_t, STEPS, noise, mse_weight=weight)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_whatever_is_predicted_the_loss_is_that_of_the_clean_image(reference_alpha_bar, prediction: str, scheme: str):
    x0, estimate = (torch.rand(5, 3, 4, 4, dtype=torch.float64) * 2 - 1 for _ in range(2))
    terms = terms_of_estimate(prediction, SCHEMES[scheme], estimate, x0)
    weight = of_clean_image(scheme, reference_alpha_bar(DiffusionConfig(100, "cosine"))[STEPS])
    error = (x0 - estimate).square().mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(terms["mse"].numpy(), weight * error, rtol=1e-5)
    plain = terms_of_estimate("epsilon", LossWeighting(), estimate, x0)
    torch.testing.assert_close(terms["vb"], plain["vb"])  # which no weight is of


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "velocity"])
def test_min_snr_is_its_papers_in_each_prediction(reference_alpha_bar, prediction: str):
    """Hang et al., section 3.4: what the plain loss of each prediction is multiplied by."""
    config = DiffusionConfig(1000, prediction=prediction)  # type: ignore[arg-type]
    snr = (kept := reference_alpha_bar(config)) / (1 - kept)
    weight = LossWeighting("min_snr").for_process(GaussianDiffusion(config))
    assert weight is not None
    limited = np.minimum(snr, 5)
    expected = {"epsilon": limited / snr, "x0": limited, "velocity": limited / (snr + 1)}[prediction]
    np.testing.assert_allclose(weight(torch.arange(1000)), expected, rtol=1e-5)


def test_the_velocity_of_images_of_a_known_size_is_edms_loss_already():
    process = GaussianDiffusion(DiffusionConfig(100, "cosine", prediction="velocity", data_std=0.5))
    weight = LossWeighting("edm", data_std=0.5).for_process(process)
    assert weight is not None
    assert torch.equal(weight(STEPS), torch.ones(5))


def test_none_is_no_factor_at_all():
    assert LossWeighting().for_process(GaussianDiffusion(DiffusionConfig(100))) is None


@pytest.mark.parametrize(("scheme", "prediction"), [("edm", "epsilon"), ("edm", "velocity"), ("min_snr", "x0")])
def test_between_the_steps_an_image_without_noise_has_a_finite_weight(scheme: str, prediction: str):
    config = DiffusionConfig(100, variance="fixed_large", prediction=prediction, time="noise_level")  # type: ignore[arg-type]
    process, t = GaussianDiffusion(config), torch.tensor([-0.9999999, -0.5, 0.0, 98.3])
    assert process.snr(t)[0].isinf()
    weight = pickle.loads(pickle.dumps(SCHEMES[scheme].for_process(process)))  # as a spawned process is sent it
    kept = process.signal_and_noise(t.double(), torch.empty(4, dtype=torch.float64))[0].square().numpy()
    with np.errstate(divide="ignore"):
        snr = np.minimum(kept / (1 - kept), 1e12)
    implied = {"epsilon": snr, "x0": np.ones(4), "velocity": snr + 1}[prediction]
    wanted = np.minimum(snr, GAMMA) if scheme == "min_snr" else snr + DATA_STD**-2
    np.testing.assert_allclose(weight(t), wanted / implied, rtol=1e-2)


def test_what_has_no_bound_is_refused():
    config = DiffusionConfig(100, variance="fixed_large", prediction="x0", time="noise_level")
    tiny.refusal(lambda: LossWeighting("edm").for_process(GaussianDiffusion(config)), "edm has no bound", "min_snr")


@pytest.mark.parametrize("time", ["timestep", "noise_level"])
def test_steps_are_drawn_as_often_as_the_normal_distribution_says(reference_alpha_bar, time: str):
    config = DiffusionConfig(30, "cosine", "fixed_large", time=time)  # type: ignore[arg-type]
    sampler = LogNormalTimesteps(GaussianDiffusion(config), LogNormalNoise(-0.4, 1.0))
    t, weights = sampler.sample(200_000, CPU, torch.Generator().manual_seed(0))
    assert torch.equal(weights, torch.ones(200_000))
    kept = reference_alpha_bar(config)
    log_sigma = 0.5 * np.log((1 - kept) / kept)
    edges = log_sigma[:-1] if time == "noise_level" else (log_sigma[1:] + log_sigma[:-1]) / 2
    below = [0.5 * (1 + math.erf((edge + 0.4) / math.sqrt(2))) for edge in edges]
    expected = np.diff([0.0, *below, 1.0])
    np.testing.assert_allclose(torch.bincount(t, minlength=30) / 200_000, expected, atol=0.003)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheme": "min-snr"}, "min_snr"),
        ({"gamma": 0.0}, "weighting.gamma is 0"),
        ({"data_std": -1.0}, "weighting.data_std is -1"),
    ],
)
def test_what_is_no_weighting_is_one_line(options: dict[str, object], words: str):
    tiny.refusal(lambda: LossWeighting(**options), words)  # type: ignore[arg-type]


# In training


def test_the_terms_of_training_are_weighted_and_its_steps_are_those_drawn():
    torch.manual_seed(0)
    options = {
        "diffusion": tiny.process(schedule="cosine", variance="fixed_large"),
        "unet": tiny.unet_config(out_channels=3, **tiny.SMALL),
    }
    plain, weighted = (
        tiny.randomised(tiny.ddpm(**options, timesteps="log_normal", **more))
        for more in ({}, {"weighting": SCHEMES["min_snr"]})
    )
    x, noise, t = torch.rand(5, 3, 16, 16), torch.randn(5, 3, 16, 16), torch.tensor([0, 10, 20, 30, 49])
    one, two = (module.denoiser.loss(x, t, noise)["mse"] for module in (plain, weighted))
    snr = (kept := plain.diffusion.alphas_cumprod[t]) / (1 - kept)
    np.testing.assert_allclose((two / one).detach(), np.minimum(1, GAMMA / snr), rtol=1e-4)
    drawn = weighted.denoiser.timesteps.sample(2000, CPU, torch.Generator().manual_seed(0))[0]
    assert torch.equal(drawn, LogNormalTimesteps(plain.diffusion, LogNormalNoise()).sample(
        2000, CPU, torch.Generator().manual_seed(0))[0])  # fmt: skip


@pytest.mark.parametrize("options", [{"weighting": SCHEMES["edm"]}, {"timesteps": "log_normal"}])
def test_the_bound_has_no_other_weights(options: dict[str, object]):
    tiny.refusal(lambda: tiny.ddpm(objective="vlb", **options), "--model.objective vlb", "or take hybrid")
