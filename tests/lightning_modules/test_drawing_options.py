"""Options of drawing: ``draw_as`` draws as a method does that was configured so."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from lightning.pytorch import LightningModule
from tiny_piti import TINY, masks, piti
from tiny_stages import NOISY, small, stage
from tiny_upsampler import upsampler

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.cli.registry import METHODS, parameters
from tenshot.diffusion import Augmentation, LowResNoise
from tenshot.lightning_modules import AdjustableGenerator, ClassifierFreeGuidance, ClassifierGuidance, Sampler

SEEDS = torch.arange(3)
TWO, THREE = Sampler("ddim", "ddim2", eta=1.0), Sampler("dpm_solver", 3)
HIDDEN = {"unet": tiny.unet_config(num_classes=9), "label_drop": 0.1, "sampler": TWO}


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a classifier."""
    folder = tmp_path_factory.mktemp("classifier")
    module = tiny.randomised(tiny.classifier())
    tiny.trainer(folder, 1, StepCheckpoint(), ema=EMA(0.9)).fit(module, tiny.faces(labels=True))
    return folder


MAKERS: dict[str, tuple[Callable[[Path], LightningModule], Callable[[Path], LightningModule]]] = {
    "sampler": (lambda _: tiny.ddpm(sampler=TWO), lambda _: tiny.ddpm(sampler=THREE)),
    "guidance.scale": (
        lambda judge: tiny.ddpm(sampler=TWO, guidance=ClassifierGuidance(str(judge), 1.0)),
        lambda judge: tiny.ddpm(sampler=TWO, guidance=ClassifierGuidance(str(judge), 300.0)),
    ),
    "classifier_free": (
        lambda _: tiny.ddpm(**HIDDEN, classifier_free=ClassifierFreeGuidance(2)),
        lambda _: tiny.ddpm(**HIDDEN, classifier_free=ClassifierFreeGuidance(4, "image", interval=(1, 800))),
    ),
    "classifier_free of PITI": (
        lambda _: piti(piti=TINY, condition_drop=0.2, sampler=TWO, classifier_free=ClassifierFreeGuidance(2)),
        lambda _: piti(piti=TINY, condition_drop=0.2, sampler=TWO, classifier_free=ClassifierFreeGuidance(4, "image")),
    ),
    "augmentation_s": (lambda _: stage(augmentation=NOISY), lambda _: stage(augmentation=NOISY, augmentation_s=60)),
    "start_step": (lambda _: stage(start_step=40), lambda _: stage(start_step=500)),
    "sampler of PITIUpsampler": (lambda _: upsampler(sampler=TWO), lambda _: upsampler(sampler=THREE)),
    "truncation": (lambda _: tiny.gan(), lambda _: tiny.gan(truncation=0.3)),
}


@pytest.mark.parametrize("option", MAKERS)
def test_a_method_draws_as_another_one_with_its_weights(judge: Path, option: str):
    ours, theirs = (tiny.randomised(make(judge)) for make in MAKERS[option])
    assert isinstance(ours, AdjustableGenerator)
    assert option.split()[0] in ours.drawing
    condition = {"low_res": small(3)} if hasattr(ours, "low_res_size") else None
    condition = (condition or {}) | ({"condition_image": masks(3)} if hasattr(ours, "condition_name") else {})
    before, expected = (module.sample(SEEDS, condition) for module in (ours, theirs))  # type: ignore[operator]
    assert not torch.equal(before, expected)
    ours.draw_as(theirs)
    assert torch.equal(ours.sample(SEEDS, condition), expected)  # type: ignore[attr-defined]


def test_steps_that_the_process_does_not_have_are_refused():
    module, other = tiny.ddpm(), tiny.ddpm()
    other.sampler = Sampler(steps=5000)
    tiny.refusal(lambda: module.draw_as(other), "5000")


def test_noise_that_a_stage_does_not_know_is_refused():
    module, other = (stage(augmentation=Augmentation(LowResNoise(100, s_min=0, s_max=40))) for _ in range(2))
    other.augmentation_s = 60
    tiny.refusal(lambda: module.draw_as(other), "--model.augmentation_s", "60")


@pytest.mark.parametrize("method", [method for method in METHODS if hasattr(method, "drawing")])
def test_options_of_drawing_are_options_of_the_method(method: type[LightningModule]):
    names = list(parameters(method))
    for option in method.drawing:  # type: ignore[attr-defined]
        assert any(name == option or name.startswith(f"{option}.") for name in names), option


def test_every_method_that_draws_has_them():
    without = {method.__name__ for method in METHODS if not hasattr(method, "drawing")}
    assert not without & {"DDPM", "DDPMPA", "StyleGAN2", "CDC", "MixDL"}
