"""Classifier-free guidance against its formulas in float64, against data whose guided density is known, and GLIDE."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from official_code import official
from torch import Tensor

from tenshot.diffusion import (
    ClassifierFree,
    Denoiser,
    DiffusionConfig,
    GaussianDiffusion,
    Guided,
    classifier_free_guidance,
    normalized_classifier_free_guidance,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver,
)

SCALE = 2.5
PREDICTIONS: dict[str, dict[str, Any]] = {
    "epsilon": {"prediction": "epsilon"},
    "x0": {"prediction": "x0"},
    "previous": {"prediction": "previous"},
    "velocity": {"prediction": "velocity"},
    "scaled velocity": {"prediction": "velocity", "data_std": 0.5},
}
COMBINATIONS = {"plain": classifier_free_guidance, "normalized": normalized_classifier_free_guidance}
LABEL, NULL = {"label": torch.tensor([0.3, -0.8, 1.5])}, {"label": torch.full((3,), 9.0)}


class Network:
    """Something smooth in x, t and its label, which remembers how many rows it was asked for."""

    def __init__(self, outputs: int = 1) -> None:
        self.outputs = outputs
        self.rows: list[int] = []

    def __call__(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        self.rows.append(len(x))
        told, phase = label.to(x).view(-1, 1, 1, 1), t.to(x).view(-1, 1, 1, 1) / 300
        prediction = 0.6 * x + torch.sin(2 * x.roll(1, dims=2) + told + phase) + 0.2 * told
        return torch.cat([prediction, torch.cos(x + told)][: self.outputs], dim=1)


def guided(config: DiffusionConfig, combine: Any = classifier_free_guidance, **options: Any) -> ClassifierFree:
    network = Network(2 if config.variance.startswith("learned") else 1)
    return ClassifierFree(Denoiser(GaussianDiffusion(config), network), NULL, SCALE, combine, **options)


def asked(denoiser: ClassifierFree) -> list[int]:
    network = denoiser.network
    assert isinstance(network, Network)
    return network.rows


def clean_and_noise(config: DiffusionConfig, prediction: Tensor, x: Tensor, abar: float, before: float) -> Any:
    """x_0 and eps from x_t and what a network predicts: both definitions as two equations."""
    signal, noise, std = abar**0.5, (1 - abar) ** 0.5, config.data_std
    size, constant = (abar * std**2 + 1 - abar) ** 0.5, 0.0
    match config.prediction:
        case "epsilon":
            row = (0.0, 1.0)
        case "x0":
            row = (1.0, 0.0)
        case "velocity":
            row = (-noise / (std * size), std * signal / size)
        case _:  # DDPM, eq. 7
            row = (before**0.5 * (1 - abar / before) / (1 - abar), 0.0)
            constant = (abar / before) ** 0.5 * (1 - before) / (1 - abar)
    known = torch.stack([x, prediction - constant * x]).flatten(1)
    matrix = torch.tensor([(signal, noise), row], dtype=torch.float64)
    return torch.linalg.solve(matrix, known).view(2, *x.shape)


def by_hand(conditional: Tensor, null: Tensor, per_channel: bool = False, analytic: bool = False) -> Tensor:
    """PITI, eqs. 7 and 8, an image (or a channel) at a time."""
    w, result = SCALE - 1, np.empty(conditional.shape)
    for place in np.ndindex(conditional.shape[: 2 if per_channel else 1]):
        c, n = conditional[place].numpy(), null[place].numpy()
        plain = c + w * (c - n)
        std = np.sqrt((1 + w) ** 2 * c.var() + w**2 * n.var()) if analytic else plain.std()
        result[place] = c.std() / std * (plain - plain.mean()) + c.mean()
    return torch.from_numpy(result)


# The formulas


@pytest.mark.parametrize("variance", ["learned_range", "fixed_large"])
@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("predicted", PREDICTIONS)
def test_guidance_is_of_the_noise_whatever_the_network_predicts(predicted: str, combination: str, variance: Any):
    config = DiffusionConfig(variance=variance, **PREDICTIONS[predicted])
    denoiser, step = guided(config, COMBINATIONS[combination]), 400
    x, t = torch.randn(3, 2, 5, 4, dtype=torch.float64), torch.full((3,), step)
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    network = Network()
    outputs = (network(x, t, told["label"]) for told in (LABEL, NULL))
    (_, with_label), (_, without) = (
        clean_and_noise(config, output, x, alpha_bar[step], alpha_bar[step - 1]) for output in outputs
    )
    expected = by_hand(with_label, without)
    if combination == "plain":
        expected = with_label + (SCALE - 1) * (with_label - without)
    clean = (x - (1 - alpha_bar[step]) ** 0.5 * expected) / alpha_bar[step] ** 0.5

    close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
    close(denoiser.x0_eps(x, t, LABEL, clip_denoised=False), (clean, expected))
    close(denoiser.x0(x, t, LABEL), clean)
    assert (expected - with_label).abs().max() > 0.1
    moments, plain = (d.denoise(x, t, LABEL, clip_denoised=False) for d in (denoiser, denoiser.denoiser))
    close(moments.x0, clean)
    assert torch.equal(moments.log_variance, plain.log_variance)  # of the conditional half


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"analytic": True}], ids=str)
def test_normalized_guidance_is_the_paper_s(options: dict[str, bool]):
    conditional = torch.randn(3, 4, 6, 5, dtype=torch.float64) + 0.4
    null = conditional + 0.2 * torch.randn_like(conditional) - 0.6  # two predictions share nearly all their noise
    result = normalized_classifier_free_guidance(conditional, null, SCALE, **options)
    torch.testing.assert_close(result, by_hand(conditional, null, **options), rtol=1e-12, atol=1e-12)
    dims = (2, 3) if "per_channel" in options else (1, 2, 3)
    ratio = result.std(dims, correction=0) / conditional.std(dims, correction=0)
    torch.testing.assert_close(result.mean(dims), conditional.mean(dims))
    if "analytic" in options:  # which takes them for independent, and leaves too little
        assert (ratio < 0.5).all()
    else:
        torch.testing.assert_close(ratio, torch.ones_like(ratio))


def test_phi_is_the_part_that_is_normalized():
    conditional, null = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    plain, whole = (combine(conditional, null, SCALE) for combine in COMBINATIONS.values())
    part = normalized_classifier_free_guidance(conditional, null, SCALE, phi=0.25)
    torch.testing.assert_close(part, 0.25 * whole + 0.75 * plain)
    assert torch.equal(normalized_classifier_free_guidance(conditional, null, SCALE, phi=0.0), plain)


def test_a_fresh_network_that_predicts_no_noise_is_guided_to_none():
    zeros = torch.zeros(2, 3, 4, 4)
    assert torch.equal(normalized_classifier_free_guidance(zeros, zeros, SCALE), zeros)


# How often the network is asked


@pytest.mark.parametrize("combine", COMBINATIONS.values())
def test_without_guidance_the_network_is_asked_once_and_nothing_changes(combine: Any):
    denoiser = guided(DiffusionConfig(), combine)
    x, t = torch.randn(3, 3, 4, 4), torch.full((3,), 500)
    both = denoiser.output(x, t, LABEL)
    denoiser.scale = 1.0
    plain = denoiser.output(x, t, LABEL)
    assert asked(denoiser) == [6, 3]
    assert torch.equal(plain, denoiser.denoiser.output(x, t, LABEL))
    assert torch.equal(both[:, 3:], plain[:, 3:])
    assert (both[:, :3] - plain[:, :3]).abs().max() > 0.1
    conditional = torch.randn(2, 3, 4, 4)
    assert torch.equal(combine(conditional, torch.randn(2, 3, 4, 4), 1.0), conditional)


@pytest.mark.parametrize("interval", [(251, 750), (250, 751)])
def test_an_interval_is_of_the_steps_of_the_whole_process(interval: tuple[int, int]):
    """ddim4 keeps the steps that are 1, 251, 501 and 751 counted from 1."""
    denoiser = guided(DiffusionConfig(), interval=interval).respace("ddim4")
    assert isinstance(denoiser, ClassifierFree)
    sample_ddim(denoiser, torch.randn(3, 3, 4, 4), LABEL)
    assert asked(denoiser) == [6 if interval[0] <= step <= interval[1] else 3 for step in (751, 501, 251, 1)]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver"])
def test_no_step_of_an_interval_waits_for_the_device(sampler: str):
    """Tensors without values stand for those whose values a GPU has not computed yet: to ask for one is an error."""
    denoiser = guided(DiffusionConfig(), interval=(200, 800))
    x, told = torch.empty(3, 3, 4, 4, device="meta"), {"label": torch.empty(3, device="meta")}
    denoiser.null = told
    if sampler == "dpm_solver":
        sample_dpm_solver(denoiser, x, 5, told)
    else:
        (sample_ddim if sampler == "ddim" else sample_ddpm)(denoiser.respace("5"), x, told)
    assert set(asked(denoiser)) == {3, 6}


def test_an_interval_within_a_batch():
    denoiser = guided(DiffusionConfig(), interval=(401, 600))
    x, t = torch.randn(3, 3, 4, 4), torch.tensor([399, 500, 600])
    output, plain = denoiser.output(x, t, LABEL), denoiser.denoiser.output(x, t, LABEL)
    assert [torch.equal(ours, theirs) for ours, theirs in zip(output, plain, strict=True)] == [True, False, True]


def test_what_null_does_not_name_both_halves_are_told():
    seen: list[dict[str, Tensor]] = []

    def network(x: Tensor, t: Tensor, **told: Tensor) -> Tensor:
        seen.append(told)
        return x

    process = GaussianDiffusion(DiffusionConfig(variance="fixed_large"))
    denoiser = ClassifierFree(Denoiser(process, network), {"label": torch.tensor([7, 7])}, SCALE)
    told = {"label": torch.tensor([1, 2]), "low_res": torch.randn(2, 3)}
    denoiser.output(torch.randn(2, 3, 4, 4), torch.tensor([5, 5]), told)
    assert seen[0]["label"].tolist() == [1, 2, 7, 7]
    assert torch.equal(seen[0]["low_res"], torch.cat([told["low_res"]] * 2))
    with pytest.raises(KeyError, match="the condition has no label"):
        denoiser.output(torch.randn(2, 3, 4, 4), torch.tensor([5, 5]), {"low_res": told["low_res"]})


# Chains


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver"])
@pytest.mark.parametrize("pulled", [False, True])
def test_chains_sample_the_guided_density(gaussian_data: Any, sampler: str, pulled: bool):
    """Of two normal densities of one deviation p_c^s / p_0^(s - 1) is the one whose mean lies as far out as s says.

    A gradient of a mean's own size on top of it, as of a classifier, moves it on.
    """
    config = DiffusionConfig(variance="fixed_large")  # right for data of deviation 1
    data = gaussian_data(config, std=1.0)

    def network(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        data.mean = label.to(x).view(-1, 1, 1, 1)
        return data(x, t)

    told, null = ({"label": torch.full((2000,), mean)} for mean in (0.3, -0.1))
    denoiser: Denoiser = ClassifierFree(Denoiser(GaussianDiffusion(config), network), null, 3.0)
    if pulled:  # towards a mean that is 0.5 larger: of exp(x / 2) at t = 0, and sqrt(alpha-bar) of that later
        denoiser = Guided(denoiser, lambda x, t: 0.5 * data.alpha_bar[t].sqrt().view(-1, 1, 1, 1).expand_as(x))
    x = torch.randn(2000, 1, 1, 1, dtype=torch.float64)
    if sampler == "dpm_solver":
        x = sample_dpm_solver(denoiser, x, 20, told, clip_denoised=False)
    else:
        draw = sample_ddim if sampler == "ddim" else sample_ddpm
        x = draw(denoiser.respace("100"), x, told, clip_denoised=False)
    assert abs(x.mean().item() - (-0.1 + 3 * 0.4 + 0.5 * pulled)) < 0.1
    assert abs(x.std().item() - 1) < 0.1


def test_a_chain_is_glide_s(monkeypatch: pytest.MonkeyPatch):
    """The official loop over a batch of 2N, whose model is guided as its notebook does."""
    names = ("gaussian_diffusion", "respace")
    theirs = SimpleNamespace(**{name: official("GLIDE_TEXT2IM", f"glide_text2im.{name}") for name in names})
    other = theirs.respace.SpacedDiffusion(
        theirs.respace.space_timesteps(1000, "25"),
        betas=theirs.gaussian_diffusion.get_named_beta_schedule("squaredcos_cap_v2", 1000),
    )
    start, *noises = torch.randn(26, 3, 3, 8, 8)
    network, labels = Network(2), torch.cat([LABEL["label"], NULL["label"]])

    def model(x: Tensor, t: Tensor) -> Tensor:
        output = network(torch.cat([x[:3]] * 2), t, labels)
        with_label, without = output[:3, :3], output[3:, :3]
        eps = without + 3.0 * (with_label - without)
        return torch.cat([torch.cat([eps, eps]), output[:, 3:]], dim=1)

    doubled = iter(noises)
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.cat([next(doubled), torch.zeros_like(start)]))
    their = other.p_sample_loop(model, (6, 3, 8, 8), noise=torch.cat([start] * 2), device="cpu")[:3]
    ours = Denoiser(GaussianDiffusion(DiffusionConfig(schedule="cosine")).respace("25"), network)
    ours, replayed = ClassifierFree(ours, NULL, 3.0), iter(noises)
    mine = sample_ddpm(ours, start, LABEL, randn=lambda x: next(replayed))
    torch.testing.assert_close(mine, their, rtol=1e-4, atol=1e-4)
    assert (mine - sample_ddpm(ours.denoiser, start, LABEL, randn=torch.zeros_like)).abs().max() > 0.05
