"""Every quantity, loss and chain against the official code, on the same inputs and recorded noise."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from official_code import official
from torch import Tensor

from tenshot.diffusion import (
    Denoiser,
    DiffusionConfig,
    GaussianDiffusion,
    Guided,
    bits_per_dim,
    classifier_guidance,
    ddim_encode,
    sample_ddim,
    sample_ddpm,
)
from tenshot.losses import hybrid_loss, vlb_loss

TABLES = [
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "alphas_cumprod_next", "sqrt_alphas_cumprod"),
    *("sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod"),
    *("sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped"),
    *("posterior_mean_coef1", "posterior_mean_coef2"),
]
PROCESSES = [
    DiffusionConfig(),
    DiffusionConfig(schedule="cosine"),
    DiffusionConfig(num_steps=4000, schedule="cosine", rescale_timesteps=True),
    DiffusionConfig(num_steps=4000, rescale_timesteps=True),
    DiffusionConfig(num_steps=50),
]
CHAINS = [  # whole ones at 1000 steps only
    *((config, "") for config in PROCESSES[:2]),
    *((config, spec) for config in PROCESSES[:4] for spec in ("25", "ddim50")),
]
SPECS = ["", "10", "ddim10", "10,5,3"]
NETWORKS = [
    (variance, prediction)
    for variance in ("learned_range", "learned", "fixed_small", "fixed_large")
    for prediction in ("epsilon", "x0", "previous")
]


def twin(theirs: SimpleNamespace, config: DiffusionConfig, spec: str = "", loss: str = "MSE"):
    gd: ModuleType = theirs.gaussian_diffusion
    prediction = {"epsilon": "EPSILON", "x0": "START_X", "previous": "PREVIOUS_X"}[config.prediction]
    return theirs.respace.SpacedDiffusion(
        use_timesteps=theirs.respace.space_timesteps(config.num_steps, spec or [config.num_steps]),
        betas=gd.get_named_beta_schedule(config.schedule, config.num_steps),
        model_mean_type=gd.ModelMeanType[prediction],
        model_var_type=gd.ModelVarType[config.variance.upper()],
        loss_type=gd.LossType[loss],
        rescale_timesteps=config.rescale_timesteps,
    )


def assert_equal(ours: Tensor, theirs: Tensor, within: float = 1e-6) -> None:
    """Largest difference, relative to the largest value if that is above 1."""
    scale = max(1.0, theirs.abs().max().item())
    error = (ours - theirs).abs().max().item() / scale
    assert error <= within, f"off by {error:.2e}"


def batch(process: GaussianDiffusion) -> dict[str, Tensor]:
    last = process.num_steps - 1
    t = torch.tensor([0, 1, 2, last // 2, last - 1, last])
    x0 = (torch.rand(6, 3, 4, 4) * 255).round() / 127.5 - 1
    x0[:, :, 0] = -1.0  # both open bins
    x0[:, :, 1] = 1.0
    return {"x0": x0, "t": t, "noise": torch.randn_like(x0)}


def network(learns_variance: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Something smooth and nonlinear in x and t, near enough to a noise prediction to give sane chains."""

    def call(x: Tensor, t: Tensor) -> Tensor:
        phase = t.float().view(-1, 1, 1, 1) / 300
        mean = 0.9 * x + 0.3 * torch.sin(2 * x.roll(1, dims=1) + phase)
        return torch.cat([mean, torch.cos(x + phase)], dim=1) if learns_variance else mean

    return call


@pytest.mark.parametrize("config", PROCESSES, ids=str)
@pytest.mark.parametrize("spec", SPECS)
def test_tables_and_timesteps(theirs: SimpleNamespace, config: DiffusionConfig, spec: str):
    ours, other = GaussianDiffusion(config).respace(spec), twin(theirs, config, spec)
    assert list(ours.timestep_map) == other.timestep_map
    for name in TABLES:
        np.testing.assert_allclose(getattr(ours, name), getattr(other, name), rtol=1e-9, atol=1e-12, err_msg=name)
    t = torch.arange(ours.num_steps)
    received = []
    other._wrap_model(lambda x, t: received.append(t))(t, t)
    assert received[0].dtype == ours.model_timesteps(t).dtype
    assert torch.equal(received[0], ours.model_timesteps(t))


@pytest.mark.parametrize("config", PROCESSES[:3], ids=str)
@pytest.mark.parametrize(("variance", "prediction"), NETWORKS)
@pytest.mark.parametrize("spec", ["", "10"])
def test_quantities(theirs: SimpleNamespace, config: DiffusionConfig, variance: str, prediction: str, spec: str):
    config = DiffusionConfig(config.num_steps, config.schedule, variance, prediction, config.rescale_timesteps)
    ours, other = GaussianDiffusion(config).respace(spec), twin(theirs, config, spec)
    x0, t, noise = batch(ours).values()
    x_t = ours.q_sample(x0, t, noise)
    assert_equal(x_t, other.q_sample(x0, t, noise=noise))
    for mine, their in zip(ours.q_mean_variance(x0, t), other.q_mean_variance(x0, t), strict=True):
        assert_equal(mine, their)
    for mine, their in zip(ours.posterior(x0, x_t, t), other.q_posterior_mean_variance(x0, x_t, t), strict=True):
        assert_equal(mine, their)
    assert_equal(ours.predict_x0(x_t, t, noise), other._predict_xstart_from_eps(x_t, t, noise))
    assert_equal(ours.predict_eps(x_t, t, x0), other._predict_eps_from_xstart(x_t, t, x0))
    assert_equal(ours.prior_bpd(x0), other._prior_bpd(x0))

    # the target with a small error: with a random output the terms of the bound are astronomical
    output = ours.target(x0, x_t, t, noise) + 0.01 * torch.randn_like(x0)
    if ours.learns_variance:
        values = torch.randn_like(x0)
        if variance == "learned":
            values = 0.1 * values + ours.posterior(x0, x_t, t).log_variance
        output = torch.cat([output, values], dim=1)
    for clip in (False, True):
        mine = ours.p_mean_variance(output, x_t, t, clip)._asdict()
        their = other.p_mean_variance(lambda x, t: output, x_t, t, clip_denoised=clip)
        for name, key in {
            "mean": "mean",
            "variance": "variance",
            "log_variance": "log_variance",
            "x0": "pred_xstart",
        }.items():
            assert_equal(mine[name], their[key])
        bits = other._vb_terms_bpd(lambda x, t: output, x0, x_t, t, clip_denoised=clip)["output"]
        for n in range(len(t)):
            assert_equal(ours.vlb_terms(output, x0, x_t, t, clip)[n], bits[n])


@pytest.mark.parametrize("config", PROCESSES[:3], ids=str)
@pytest.mark.parametrize(("variance", "prediction"), NETWORKS)
def test_training_losses_and_their_gradients(
    theirs: SimpleNamespace, config: DiffusionConfig, variance: str, prediction: str
):
    config = DiffusionConfig(config.num_steps, config.schedule, variance, prediction, config.rescale_timesteps)
    ours = GaussianDiffusion(config)
    x0, t, noise = batch(ours).values()
    x_t = ours.q_sample(x0, t, noise)
    output = ours.target(x0, x_t, t, noise) + 0.01 * torch.randn_like(x0)
    if ours.learns_variance:
        values = ours.posterior(x0, x_t, t).log_variance if variance == "learned" else torch.zeros_like(x0)
        output = torch.cat([output, values + 0.1 * torch.randn_like(x0)], dim=1)

    for kind, weight in (("MSE", 1 / config.num_steps), ("RESCALED_MSE", 0.001), ("RESCALED_KL", None)):
        grads = []
        leaf = output.clone().requires_grad_()
        their = twin(theirs, config, loss=kind).training_losses(lambda x, t, leaf=leaf: leaf, x0, t, noise=noise)
        grads.append(torch.autograd.grad(their["loss"].sum(), leaf)[0])
        leaf = output.clone().requires_grad_()
        if weight is None:
            mine = vlb_loss(ours, leaf, x0, x_t, t)
        else:
            mine = hybrid_loss(ours, leaf, x0, x_t, t, noise, vlb_weight=weight)
            assert set(mine) == set(their) - {"loss"}
            for name in mine:
                assert_equal(mine[name], their[name])
        loss = torch.stack(list(mine.values())).sum(0)
        unit = config.num_steps if kind == "RESCALED_KL" else 1  # bits of one step, not times their number
        assert_equal(loss / unit, their["loss"] / unit)
        grads.append(torch.autograd.grad(loss.sum(), leaf)[0])
        assert_equal(grads[1] / unit, grads[0] / unit, within=5e-6)


def recorded(count: int) -> list[Tensor]:
    return [torch.randn(2, 3, 8, 8) for _ in range(count)]


def replay(noises: list[Tensor]) -> Callable[..., Tensor]:
    remaining = iter(noises)
    return lambda *_, **__: next(remaining)


@pytest.mark.parametrize(("config", "spec"), CHAINS, ids=str)
@pytest.mark.parametrize("variance", ["learned_range", "fixed_small", "fixed_large"])
def test_ancestral_chain(theirs, monkeypatch, config: DiffusionConfig, variance: str, spec: str):
    config = DiffusionConfig(config.num_steps, config.schedule, variance, "epsilon", config.rescale_timesteps)
    ours, other = GaussianDiffusion(config).respace(spec), twin(theirs, config, spec)
    start, *noises = recorded(ours.num_steps + 1)
    model = network(ours.learns_variance)
    mine = sample_ddpm(Denoiser(ours, model), start, randn=replay(noises))
    monkeypatch.setattr(torch, "randn_like", replay(noises))
    their = other.p_sample_loop(model, start.shape, noise=start, device="cpu")
    assert their.abs().mean() > 0.05
    assert_equal(mine, their, within=1e-4)


@pytest.mark.parametrize(("config", "spec"), CHAINS, ids=str)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_chain(theirs, monkeypatch, config: DiffusionConfig, eta: float, spec: str):
    ours, other = GaussianDiffusion(config).respace(spec), twin(theirs, config, spec)
    start, *noises = recorded(ours.num_steps + 1)
    mine = sample_ddim(Denoiser(ours, network(True)), start, eta=eta, randn=replay(noises))
    monkeypatch.setattr(torch, "randn_like", replay(noises))
    their = other.ddim_sample_loop(network(True), start.shape, noise=start, device="cpu", eta=eta)
    assert their.abs().mean() > 0.05
    assert_equal(mine, their, within=1e-4)


@pytest.mark.parametrize("config", PROCESSES[:4], ids=str)
@pytest.mark.parametrize("clip", [True, False])
def test_ddim_encoding(theirs, config: DiffusionConfig, clip: bool):
    ours, other = GaussianDiffusion(config).respace("50"), twin(theirs, config, "50")
    x = x0 = torch.rand(2, 3, 8, 8) * 2 - 1
    for step in range(50):
        t = torch.full((2,), step)
        x = other.ddim_reverse_sample(network(True), x, t, clip_denoised=clip)["sample"]
    assert_equal(ddim_encode(Denoiser(ours, network(True)), x0, clip_denoised=clip), x, within=1e-4)


@pytest.mark.parametrize("config", PROCESSES[:3], ids=str)
@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_classifier_guided_chain(monkeypatch, config: DiffusionConfig, sampler: str):
    modules = ("gaussian_diffusion", "respace")
    theirs = SimpleNamespace(**{name: official("GUIDED_DIFFUSION", f"guided_diffusion.{name}") for name in modules})
    ours, other = GaussianDiffusion(config).respace("25"), twin(theirs, config, "25")
    start, *noises = recorded(26)
    labels, weight, times = torch.tensor([1, 4]), torch.randn(5, 192) / 8, []

    def classifier(x: Tensor, t: Tensor) -> Tensor:
        times.append(t.tolist())
        return torch.tanh(x.flatten(1)) @ weight.T * (1 + t.view(-1, 1) / 1000)

    def cond_fn(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            log_probs = classifier(x, t).log_softmax(-1)
            return 3 * torch.autograd.grad(log_probs[range(2), labels].sum(), x)[0]

    model = network(True)
    denoisers = Guided(Denoiser(ours, model), classifier_guidance(classifier, labels, 3.0)), Denoiser(ours, model)
    if sampler == "ancestral":
        mine, plain = (sample_ddpm(denoiser, start, randn=replay(noises)) for denoiser in denoisers)
        loop = other.p_sample_loop
    else:
        mine, plain = (sample_ddim(denoiser, start) for denoiser in denoisers)
        loop = other.ddim_sample_loop
    told = times.copy()
    times.clear()
    monkeypatch.setattr(torch, "randn_like", replay(noises))
    their = loop(model, start.shape, noise=start, device="cpu", cond_fn=cond_fn, model_kwargs={})
    assert times == told
    assert (mine - plain).abs().max() > 0.01
    assert_equal(mine, their, within=1e-4)


@pytest.mark.parametrize("config", PROCESSES[:3], ids=str)
def test_bits_per_dim(theirs, monkeypatch, config: DiffusionConfig):
    ours, other = GaussianDiffusion(config).respace("50"), twin(theirs, config, "50")
    x0, noises = torch.rand(2, 3, 8, 8) * 2 - 1, recorded(50)
    mine = bits_per_dim(Denoiser(ours, network(True)), x0, randn=replay(noises))
    monkeypatch.setattr(torch, "randn_like", replay(noises))
    with torch.no_grad():
        their = other.calc_bpd_loop(network(True), x0)
    assert_equal(mine.total, their["total_bpd"])
    assert_equal(mine.prior, their["prior_bpd"])
    for name, key in {"vb": "vb", "mse": "mse", "x0_mse": "xstart_mse"}.items():
        assert_equal(getattr(mine, name), their[key].flip(1))  # they list the last step first
