"""What PITI's upsampler begins with, how it draws, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import glide_files
import pytest
import tiny
import tiny_piti
import tiny_stages
import torch
from tiny_piti import pairs, public_file
from tiny_upsampler import CONFIG, condition, upsampler
from torch import Tensor

from tenshot.callbacks import StepCheckpoint
from tenshot.distributed.seeding import SeededNoise
from tenshot.lightning_modules import PatchAdversary, Perceptual, PITIUpsampler, Sampler
from tenshot.models.pretrained import load_glide, load_piti

SEEDS = torch.tensor([4, 9, 2, 7])
PUBLIC: dict[str, Any] = {"image_size": 16, "head_channels": 32, "attention_resolutions": ()}
WHOLE = replace(tiny_piti.CONFIG, low_res_channels=3, attention_resolutions=(), channel_mult=(1,), condition_layers=1)


def glide(folder: Path, name: str = "upsample.pt", **changes: Any) -> str:
    return public_file(folder / name, glide_files.glide(**changes, channel_mult=(1,), attention_resolutions=()))


def piti(folder: Path, name: str = "upsample_mask.pt", **changes: Any) -> str:
    sizes: dict[str, Any] = {"channel_mult": (1,), "attention_resolutions": (), "condition_layers": 1}
    return public_file(folder / name, glide_files.piti(**(glide_files.UPSAMPLER | sizes | changes)))


# What it begins with


def test_public_upsamplers_of_glide_and_of_piti(tmp_path: Path):
    file = glide(tmp_path, **glide_files.UPSAMPLER)
    module = upsampler(init_from=file, piti=CONFIG)
    assert module.diffusion.config.schedule == "linear"
    assert module.low_res_size == 4  # a quarter, as published
    theirs = load_glide(file, "upsample", text_heads=1, **PUBLIC).state_dict()
    own = module.unet.state_dict()
    for name, value in theirs.items():
        if not name.startswith("context_encoder."):
            assert torch.equal(own[name], value), name
    assert {name for name in own if name not in theirs} <= {name for name in own if name.startswith("context_encoder.")}

    file = piti(tmp_path)
    module = upsampler(init_from=file, piti=CONFIG, low_res_size=8)
    assert module.low_res_size == 8
    tiny.assert_same(module.unet.state_dict(), load_piti(file, "upsample", condition_heads=1, **PUBLIC).state_dict())


def test_a_run_of_its_own_gives_its_average_and_its_size_and_a_missing_weight_is_named(tmp_path: Path):
    tiny.trainer(tmp_path, 2, StepCheckpoint()).fit(upsampler(), pairs())
    module = upsampler(init_from=str(tmp_path))
    path = tmp_path / "checkpoints/step=00000002.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    tiny.assert_same(module.unet.state_dict(), checkpoint["ema"]["weights"]["unet"])
    assert module.low_res_size == 8
    del checkpoint["ema"]["weights"]["unet"]["context_encoder.class_token"]
    torch.save(checkpoint, path)
    tiny.refusal(lambda: upsampler(init_from=str(tmp_path)), "missing keys (context_encoder.class_token)")


def test_a_stage_that_enlarges_becomes_one_that_sees_conditions_too(tmp_path: Path):
    small = tiny.unet_config(channel_mult=(1,), attention_resolutions=())
    stage = tiny.randomised(tiny_stages.stage(unet=small))
    module = upsampler(init_from=tiny_stages.saved(tmp_path, stage), piti=CONFIG)
    own = module.unet.state_dict()
    for name, value in stage.unet.state_dict().items():
        assert torch.equal(own[name], value), name
    assert module.low_res_size == 8


# Drawing


def by_hand(module: PITIUpsampler, given: dict[str, Tensor], steps: str, temperature: float) -> Tensor:
    """The ancestral chain, with the encoder in each step, from small images of 256 levels."""
    process, noise = module.diffusion.respace(steps), SeededNoise(SEEDS, torch.device("cpu"))
    x = temperature * noise.normal(3, 16, 16)
    small = ((given["low_res"] + 1) * 127.5).round() / 127.5 - 1
    image = given["condition_image"].float() / 127.5 - 1
    with torch.no_grad():
        for step in reversed(range(process.num_steps)):
            t = torch.full((4,), step)
            output = module.unet.eval()(x, process.model_timesteps(t), low_res=small, condition_image=image)
            p = process.p_mean_variance(output, x, t)
            x = p.mean + (step > 0) * p.variance.sqrt() * noise.normal_like(x)
    return x.clamp(-1, 1)


def test_images_are_those_of_the_ancestral_chain():
    module, given = tiny.randomised(upsampler(sampler=Sampler("ddpm", "4", temperature=0.9))), condition()
    drawn = module.sample(SEEDS, given)
    torch.testing.assert_close(drawn, by_hand(module, given, "4", 0.9), atol=1e-4, rtol=0)
    assert (drawn - by_hand(module, given, "4", 1.0)).abs().max() > 0.01
    whole = upsampler(sampler=PITIUpsampler(piti=CONFIG).sampler)
    assert whole.sampler == Sampler("ddpm", "fast27", temperature=0.997)  # as published
    assert whole.diffusion.respace("fast27").num_steps == 27


def test_an_image_depends_on_its_seed_and_its_two_conditions_and_the_encoder_runs_once():
    module, given, calls = tiny.randomised(upsampler()), condition(), []
    module.unet.context_encoder.register_forward_hook(lambda _, inputs, out: calls.append(len(out[0])))
    together = module.sample(SEEDS, given)
    assert calls == [4]
    alone = module.sample(SEEDS[1:2], {name: rows[1:2] for name, rows in given.items()})
    assert torch.equal(alone[0], together[1])
    for name, rows in given.items():
        changed = module.sample(SEEDS, given | {name: torch.cat([rows[1:2], rows[1:]])})
        assert torch.equal(changed[1:], together[1:])
        assert not torch.equal(changed[0], together[0])
    pixels = ((given["low_res"] + 1) * 127.5).round() / 127.5 - 1
    assert torch.equal(module.sample(SEEDS, given | {"low_res": pixels}), together)


@pytest.mark.parametrize("condition_input", [False, True])
def test_with_condition_input_the_first_convolution_sees_the_condition_image(condition_input: bool):
    """Its encoder is silenced, so that nothing else tells of it."""
    module = tiny.randomised(upsampler(piti=replace(CONFIG, condition_input=condition_input), low_res_size=8))
    given = condition()
    others = given | {"condition_image": given["condition_image"].roll(1, 0)}
    silenced = module.unet.context_encoder.register_forward_hook(lambda _, x, out: tuple(0 * each for each in out))
    assert torch.equal(module.sample(SEEDS, given), module.sample(SEEDS, others)) != condition_input
    silenced.remove()
    module.sampler = Sampler("ddpm", "3")
    torch.testing.assert_close(module.sample(SEEDS, given), by_hand(module, given, "3", 1.0), atol=1e-4, rtol=0)


# Bad input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: PITIUpsampler(), ["PITIUpsampler needs a network", "--model.piti", "--model.init_from"]),
        (lambda folder: upsampler(init_from=glide(folder, "base.pt"), piti=CONFIG), ["base.pt: a base, which draws"]),
        (
            lambda folder: upsampler(init_from=piti(folder, "base.pt", low_res_channels=0), piti=CONFIG),
            ["base.pt: a base, which draws small images and enlarges none", "--model.init_from"],
        ),
        (
            lambda folder: upsampler(init_from=str(tiny.weights_file(folder / "p.safetensors", tiny.ddpm()))),
            ["p.safetensors: a base"],
        ),
        (
            lambda folder: upsampler(
                init_from=public_file(folder / "e.pt", glide_files.piti(), "encoder."), piti=CONFIG
            ),
            ["e.pt: a condition encoder of PITI, which enlarges nothing"],
        ),
        (
            lambda folder: upsampler(
                init_from=tiny_stages.saved(folder, tiny_stages.stage(augmentation=tiny_stages.NOISY))
            ),
            ["is told how much noise is in what it enlarges"],
        ),
        (
            lambda folder: upsampler(init_from=piti(folder, condition_layers=2), piti=CONFIG),
            ["upsample_mask.pt: another network", "piti.condition_layers 2 (here 1)"],
        ),
        (lambda folder: upsampler(low_res_size=5), ["--model.low_res_size is 5", "image_size, 16"]),
        (lambda folder: upsampler(low_res_size=16), ["--model.low_res_size is 16"]),
        (lambda folder: upsampler(losses_from=-1), ["--model.losses_from is -1"]),
        (lambda folder: Perceptual(-1.0), ["--model.perceptual.weight is -1"]),
        (lambda folder: PatchAdversary(layers=0), ["--model.adversary.layers is 0"]),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_one_line(tmp_path: Path, make: Any, words: list[str]):
    tiny.refusal(lambda: make(tmp_path), *words)


@pytest.mark.parametrize(
    ("options", "data", "words"),
    [
        ({}, tiny.faces(), ["no condition images", "--data Paired"]),
        ({}, pairs(pairs="sketch"), ["1 channels for a network of 3", "--model.piti.condition_channels"]),
        ({}, pairs(image_size=32), ["images of 32 px (--data.image_size)", "--model.piti.image_size"]),
        ({"adversary": PatchAdversary()}, pairs(), ["images of 16 px", "24 at least", "--model.adversary.layers"]),
        ({"perceptual": Perceptual(vgg19_weights="no.pth")}, pairs(), ["no.pth"]),
    ],
)
def test_what_does_not_suit_is_refused_before_training(tmp_path: Path, options: Any, data: Any, words: list[str]):
    module = upsampler(**options)
    tiny.refusal(lambda: tiny.trainer(tmp_path, 1).fit(module, data), *words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["PITIUpsampler draws from small images and condition images", "--images.low_res"]),
        ({"low_res": condition()["low_res"]}, ["PITIUpsampler draws from small images and condition images"]),
        (condition() | {"low_res": torch.zeros(4, 3, 4, 4)}, ["(3, 4, 4)", "takes (3, 8, 8)"]),
    ],
)
def test_what_cannot_be_drawn_from_is_one_line(given: dict[str, Tensor], words: list[str]):
    module = upsampler()
    tiny.refusal(lambda: module.sample(SEEDS, given), *words)


def test_a_checkpoint_that_enlarges_other_images_is_refused():
    module, other, checkpoint = upsampler(), upsampler(low_res_size=4), dict[str, Any]()
    checkpoint["state_dict"] = other.state_dict()
    other.on_save_checkpoint(checkpoint)
    tiny.refusal(lambda: module.on_load_checkpoint(checkpoint), "enlarges 4 px, here --model.low_res_size is 8")
