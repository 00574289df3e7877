"""How PITI draws from condition images, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import glide_files
import pytest
import tiny
import torch
from tiny_piti import CONFIG, TINY, masks, pairs, piti, public_file
from torch import Tensor

from tenshot.distributed.seeding import SeededNoise
from tenshot.lightning_modules import PITI, ClassifierFreeGuidance, Sampler

SEEDS = torch.tensor([4, 9, 2, 7])


def method(**arguments: Any) -> PITI:
    return tiny.randomised(piti(**({"condition_drop": 0.2} | arguments)))


def by_hand(module: PITI, image: Tensor, scale: float, steps: str) -> Tensor:
    """The chain with two evaluations a step, the encoder in each: ancestral."""
    process, noise = module.diffusion.respace(steps), SeededNoise(SEEDS, torch.device("cpu"))
    x = noise.normal(3, 16, 16)
    image = image.float() / 127.5 - 1
    with torch.no_grad():
        for step in reversed(range(process.num_steps)):
            t = torch.full((len(x),), step)
            told = process.model_timesteps(t)
            conditional = module.unet.eval()(x, told, condition_image=image)
            null = module.unet(x, told, condition_image=torch.ones_like(image))
            eps = null[:, :3] + scale * (conditional[:, :3] - null[:, :3])
            p = process.p_mean_variance(torch.cat([eps, conditional[:, 3:]], 1), x, t)
            x = p.mean + (step > 0) * p.variance.sqrt() * noise.normal_like(x)
    return x.clamp(-1, 1)


@pytest.mark.parametrize("condition_input", [False, True])
def test_images_are_those_of_the_guided_chain(condition_input: bool):
    config = replace(CONFIG, condition_input=condition_input)
    module = method(piti=config, sampler=Sampler("ddpm", "4"), classifier_free=ClassifierFreeGuidance(2.5))
    drawn = module.sample(SEEDS, {"condition_image": masks()})
    torch.testing.assert_close(drawn, by_hand(module, masks(), 2.5, "4"), atol=1e-4, rtol=0)
    assert (drawn - by_hand(module, masks(), 1.0, "4")).abs().max() > 0.01


@pytest.mark.parametrize(("guidance", "rows"), [(None, 4), (ClassifierFreeGuidance(2.5, "image"), 8)])
def test_conditions_are_encoded_once_a_sample_and_both_halves_evaluated_together(guidance: Any, rows: int):
    module, calls = method(sampler=Sampler("ddim", "5"), classifier_free=guidance), []
    module.unet.register_forward_hook(lambda _, inputs, out: calls.append(("network", len(out))))
    module.unet.context_encoder.register_forward_hook(lambda _, inputs, out: calls.append(("encoder", len(out[0]))))
    for part in module.unet.modules():
        if getattr(part, "context_kv", None) is not None:
            part.context_kv.register_forward_hook(lambda _, inputs, out: calls.append(("keys and values", len(out))))
    layers = sum(getattr(part, "context_kv", None) is not None for part in module.unet.modules())
    module.sample(SEEDS, {"condition_image": masks()})
    prepared = [("encoder", 4), *[("keys and values", 4)] * layers]
    white = [("encoder", 1), *[("keys and values", 1)] * layers] if guidance else []
    assert layers > 1
    assert calls == [*prepared, *white, *[("network", rows)] * 5]


def test_an_image_depends_on_its_seed_and_its_condition_alone():
    module = method(classifier_free=ClassifierFreeGuidance(3.0))
    seeds, image = torch.arange(6), masks(6)
    together = module.sample(seeds, {"condition_image": image})
    for rows in (torch.tensor([3]), torch.tensor([5, 1])):
        assert torch.equal(module.sample(seeds[rows], {"condition_image": image[rows]}), together[rows])
    changed = module.sample(seeds, {"condition_image": torch.cat([masks(1, seed=1), image[1:]])})
    assert torch.equal(changed[1:], together[1:])
    assert not torch.equal(changed[0], together[0])
    same = module.sample(seeds, {"condition_image": image.float() / 127.5 - 1})
    assert torch.equal(same, together)


def test_the_network_is_told_nothing_by_a_white_image():
    """So that guidance of any strength from a white image is no guidance."""
    module = method(classifier_free=ClassifierFreeGuidance(3.0))
    white = {"condition_image": torch.full((4, 3, 32, 32), 255, dtype=torch.uint8)}
    plain = method()
    torch.testing.assert_close(module.sample(SEEDS, white), plain.sample(SEEDS, white), atol=1e-4, rtol=0)


def test_of_a_network_that_conditions_were_never_hidden_from_guidance_is_refused(tmp_path: Path):
    guided = {"classifier_free": ClassifierFreeGuidance(2.0)}
    tiny.refusal(lambda: piti(**guided), "--model.classifier_free", "train it with condition_drop 0.2")
    file = public_file(tmp_path / "base_mask.pt", glide_files.piti())
    assert piti(init_from=file, piti=CONFIG, **guided).knows_null
    glide = public_file(tmp_path / "base.pt", glide_files.glide())
    tiny.refusal(lambda: piti(init_from=glide, piti=CONFIG, **guided), "--model.classifier_free")


# Bad input


def encoder_alone(folder: Path) -> str:
    return public_file(folder / "stage1.pt", glide_files.piti(), "encoder.")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: PITI(), ["PITI needs a network", "--model.piti", "--model.init_from"]),
        (lambda folder: PITI(piti=CONFIG, encoder_from="x.pt"), ["--model.encoder_from", "--model.init_from"]),
        (lambda folder: piti(condition_drop=1.5), ["--model.condition_drop is 1.5"]),
        (
            lambda folder: piti(init_from=encoder_alone(folder), piti=CONFIG),
            ["condition encoder alone", "--model.encoder_from"],
        ),
        (
            lambda folder: piti(
                init_from=public_file(folder / "b.pt", glide_files.glide()), encoder_from=str(folder / "b.pt"),
                piti=CONFIG,
            ),
            ["a GLIDE, which has no condition encoder"],
        ),
        (
            lambda folder: piti(
                init_from=public_file(folder / "u.pt", glide_files.glide(**glide_files.UPSAMPLER)), piti=CONFIG
            ),
            ["it enlarges images"],
        ),
        (
            lambda folder: piti(init_from=str(tiny.weights_file(folder / "p.safetensors", tiny.ddpm())), piti=CONFIG),
            ["a diffusion model without a condition", "--model.adapt_context true"],
        ),
        (
            lambda folder: piti(
                init_from=public_file(folder / "b.pt", glide_files.piti(condition_layers=3)), piti=CONFIG
            ),
            ["piti.condition_layers 3 (here 2)"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_one_line(tmp_path: Path, make: Any, words: list[str]):
    tiny.refusal(lambda: make(tmp_path), *words)


@pytest.mark.parametrize(
    ("module", "data", "words"),
    [
        ({}, tiny.faces(), ["no condition images", "--data Paired"]),
        ({}, pairs(pairs="sketch"), ["1 channels for a network of 3", "--model.piti.condition_channels"]),
        ({}, pairs(condition_size=16), ["condition images of 16 px (--data.condition_size)", "takes 32"]),
        ({}, pairs(image_size=32), ["images of 32 px (--data.image_size)", "--model.piti.image_size"]),
        ({"stage": 1}, pairs(), ["--model.stage 1", "pretrained network", "--model.init_from"]),
    ],
)
def test_data_that_do_not_suit_are_refused_before_training(tmp_path: Path, module: Any, data: Any, words: list[str]):
    tiny.refusal(lambda: tiny.trainer(tmp_path, 1).fit(piti(piti=TINY, **module), data), *words)


def test_to_draw_without_a_condition_is_refused():
    tiny.refusal(lambda: method().sample(SEEDS), "PITI draws from condition images")
