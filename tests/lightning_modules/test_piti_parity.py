"""PITI against its official code: a guided chain, and the loss of a training step."""

from typing import Any

import pytest
import torch
from official_code import official, randomised
from tiny_piti import piti
from torch import Tensor, nn

import tenshot.lightning_modules.noise_drawing as noise_drawing
from tenshot.lightning_modules import PITI, ClassifierFreeGuidance, Sampler
from tenshot.models import PITIConfig

CONFIG = PITIConfig(
    image_size=32, channels=32, channel_mult=(1, 2, 3), num_res_blocks=1, attention_resolutions=(16, 8),
    head_channels=16, condition_layers=2, dropout=0.0,
)  # fmt: skip
SCALE, STEPS, SHAPE = 1.7, "6", (2, 3, 32, 32)
SEED = 5
"""With which the first step, at t = 999, clamps all pixels: of one that it does not it multiplies rounding errors by
sqrt(1 / alpha-bar), 20,000."""


@pytest.fixture
def networks(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, PITI]:
    """The official network, and ours from its file."""
    module = official("PITI", "pretrained_diffusion.text2im_model")
    blocks = module.Transformer  # eight, whatever the official encoder is asked for; two are enough
    monkeypatch.setattr(module, "Transformer", lambda width, layers, heads: blocks(width, 2, heads))
    theirs = module.Text2ImModel(
        text_ctx=128, xf_width=512, xf_layers=2, xf_heads=8, xf_final_ln=True, use_fp16=False, num_heads=1,
        num_heads_upsample=-1, n_class=3, in_channels=3, model_channels=32, out_channels=6, num_res_blocks=1,
        attention_resolutions=(2, 4), channel_mult=(1, 2, 3), num_head_channels=16, use_scale_shift_norm=True,
        resblock_updown=True, dropout=0.0,
    )  # fmt: skip
    torch.save(randomised(theirs).state_dict(), tmp_path / "base.pt")
    ours = piti(
        init_from=str(tmp_path / "base.pt"), piti=CONFIG, stage=2, sampler=Sampler("ddpm", STEPS),
        classifier_free=ClassifierFreeGuidance(SCALE),
    )  # fmt: skip
    return theirs, ours


def condition() -> Tensor:
    return torch.randint(256, (2, 3, 256, 256), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def process(steps: str = "") -> Any:
    util = official("PITI", "pretrained_diffusion.script_util")
    return util.create_gaussian_diffusion(
        steps=1000, learn_sigma=True, noise_schedule="squaredcos_cap_v2", timestep_respacing=steps
    )


def test_a_guided_chain_is_that_of_the_official_sampler(networks: Any, monkeypatch: pytest.MonkeyPatch):
    theirs, ours = networks
    util = official("PITI", "pretrained_diffusion.glide_util")
    monkeypatch.setattr(util.dist_util, "dev", lambda: "cpu")
    options = {
        "diffusion_steps": 1000, "learn_sigma": True, "noise_schedule": "squaredcos_cap_v2", "predict_xstart": False,
        "rescale_timesteps": False, "rescale_learned_sigmas": False,
    }  # fmt: skip
    torch.manual_seed(SEED)
    with torch.no_grad():
        expected = util.sample(
            theirs, options, 32, 32, {"ref": condition() / 127.5 - 1}, batch_size=2, guidance_scale=SCALE,
            prediction_respacing=STEPS,
        )  # fmt: skip

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
        expected = process().training_losses(
            theirs, x, t, None, None, model_kwargs={"ref": condition() / 127.5 - 1}, noise=noise
        )
        step = ours.denoiser.predict(x, t, noise, {"condition_image": condition()})
        terms = ours.loss_terms(step)
    for name in ("mse", "vb"):
        torch.testing.assert_close(terms[name], expected[name], rtol=1e-4, atol=1e-6)
