"""PITI against its official code: a guided chain, and the loss of a training step."""

from typing import Any

import pytest
import torch
from official_piti import CONFIG, condition, network, process, sample
from tiny_piti import piti
from torch import Tensor, nn

import tenshot.lightning_modules.noise_drawing as noise_drawing
from tenshot.lightning_modules import PITI, ClassifierFreeGuidance, Sampler

SCALE, STEPS, SHAPE, COSINE = 1.7, "6", (2, 3, 32, 32), "squaredcos_cap_v2"
SEED = 5
"""With which the first step, at t = 999, clamps all pixels: of one that it does not it multiplies rounding errors by
sqrt(1 / alpha-bar), 20,000."""


@pytest.fixture
def networks(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, PITI]:
    """The official network, and ours from its file."""
    theirs = network("Text2ImModel", monkeypatch)
    torch.save(theirs.state_dict(), tmp_path / "base.pt")
    ours = piti(
        init_from=str(tmp_path / "base.pt"), piti=CONFIG, stage=2, sampler=Sampler("ddpm", STEPS),
        classifier_free=ClassifierFreeGuidance(SCALE),
    )  # fmt: skip
    return theirs, ours


def test_a_guided_chain_is_that_of_the_official_sampler(networks: Any, monkeypatch: pytest.MonkeyPatch):
    theirs, ours = networks
    torch.manual_seed(SEED)
    how = {"guidance_scale": SCALE, "prediction_respacing": STEPS}
    expected = sample(theirs, COSINE, {"ref": condition() / 127.5 - 1}, monkeypatch, **how)

    class Official:
        """Noise as the official sampler draws it: for both halves, of which it keeps the first."""

        def __init__(self, seeds: Tensor, device: torch.device) -> None:
            torch.manual_seed(SEED)

        def normal(self, *shape: int) -> Tensor:
            return torch.randn(2, *shape)

        def normal_like(self, x: Tensor) -> Tensor:
            return torch.randn(4, *x.shape[1:])[:2]

    monkeypatch.setattr(noise_drawing, "SeededNoise", Official)
    monkeypatch.setattr("tenshot.distributed.seeding.CPU_BATCH", 2)
    drawn = ours.sample(torch.arange(2), {"condition_image": condition()})
    assert 0.05 < drawn.std() < 1
    torch.testing.assert_close(drawn, expected.clamp(-1, 1), atol=1e-4, rtol=0)
    ours.classifier_free = None
    assert (ours.sample(torch.arange(2), {"condition_image": condition()}) - drawn).abs().max() > 0.1


def test_a_training_step_has_the_official_loss(networks: Any):
    theirs, ours = networks
    generator = torch.Generator().manual_seed(4)
    x, noise = torch.rand(SHAPE, generator=generator) * 2 - 1, torch.randn(SHAPE, generator=generator)
    t = torch.tensor([12, 640])
    with torch.no_grad():
        expected = process(COSINE).training_losses(
            theirs, x, t, None, None, model_kwargs={"ref": condition() / 127.5 - 1}, noise=noise
        )
        step = ours.denoiser.predict(x, t, noise, {"condition_image": condition()})
        terms = ours.loss_terms(step)
    for name in ("mse", "vb"):
        torch.testing.assert_close(terms[name], expected[name], rtol=1e-4, atol=1e-6)
