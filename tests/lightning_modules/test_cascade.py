"""A cascade draws what its parts draw one after the other, whatever is beside, and refuses parts that don't fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny_stages import saved, stage

from tenshot.cli.registry import parameters
from tenshot.diffusion import Augmentation, DiffusionConfig, LowResNoise
from tenshot.distributed.seeding import SeededNoise
from tenshot.lightning_modules import (
    DDPM,
    Cascade,
    CascadeStage,
    ClassifierFreeGuidance,
    Sampler,
    StyleGAN2,
    SuperResolution,
)
from tenshot.lightning_modules.cascade import stage_seeds

PROCESS = DiffusionConfig(100, "cosine")
NOISY = Augmentation(LowResNoise(100, s_min=0))
ANCESTRAL = Sampler("ddpm", "3")
SEEDS = (3 << 32) + torch.arange(4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base`` (8 px), ``s16`` and ``s32``, which are told s, ``p16`` and ``p32``, which are not, ``gan`` (16 px)."""

    def unet(size: int, classes: int | None = None) -> dict[str, Any]:
        return {"unet": tiny.unet_config(image_size=size, num_classes=classes, **tiny.SMALL)}

    folder = tmp_path_factory.mktemp("parts")
    modules: dict[str, DDPM | StyleGAN2] = {
        "base": tiny.ddpm(**unet(8), diffusion=PROCESS),
        "classes": tiny.ddpm(**unet(8, 3), diffusion=PROCESS),
        "s16": stage(**unet(16), augmentation=NOISY, diffusion=PROCESS),
        "s16_classes": stage(**unet(16, 3), augmentation=NOISY),
        "s16_other_classes": stage(**unet(16, 4)),
        "p16": stage(**unet(16)),
        "s32": stage(**unet(32), low_res_size=16, augmentation=NOISY),
        "p32": stage(**unet(32), low_res_size=16),
        "gan": tiny.gan(stylegan2=replace(tiny.STYLEGAN2, image_size=16)),
        "hidden": tiny.ddpm(**unet(8, 3), diffusion=PROCESS, label_drop=0.1),
        "s16_hidden": stage(**unet(16, 3), label_drop=0.1),
    }
    for number, (name, module) in enumerate(modules.items()):
        (folder / name).mkdir()
        saved(folder / name, tiny.randomised(module, number))
    return folder


def part(files: Path, name: str) -> str:
    return str(files / name / "saved.ckpt")


def at(files: Path, name: str, s: int | None = None, **arguments: Any) -> CascadeStage:
    return CascadeStage(part(files, name), s, **({"sampler": ANCESTRAL} | arguments))


def cascade(files: Path, *stages: CascadeStage, base: str = "base", **arguments: Any) -> Cascade:
    quick = {} if base == "gan" else {"base_sampler": ANCESTRAL}
    module = Cascade(part(files, base), list(stages), **(quick | arguments))
    module.configure_model()
    return module


def loaded(kind: type[Any], files: Path, name: str, **arguments: Any) -> Any:
    module = kind(init_from=part(files, name), **arguments)
    module.configure_model()
    return module


def test_it_draws_what_its_parts_draw_one_after_the_other_whatever_is_drawn_beside(files: Path):
    module = cascade(files, at(files, "s16", 20), at(files, "s32", 0))
    base = loaded(DDPM, files, "base", sampler=ANCESTRAL)
    first = loaded(SuperResolution, files, "s16", sampler=ANCESTRAL)
    second = loaded(SuperResolution, files, "s32", sampler=ANCESTRAL)
    z = base.sample(SEEDS)
    z = first.sample(stage_seeds(SEEDS, 1), {"low_res": z, "s": torch.full((4,), 20)})
    images = second.sample(stage_seeds(SEEDS, 2), {"low_res": z, "s": torch.zeros(4, dtype=torch.int64)})
    assert images.shape == (4, 3, 32, 32)
    assert torch.equal(module.sample(SEEDS), images)
    for size in (1, 3):
        assert torch.equal(torch.cat([module.sample(seeds) for seeds in SEEDS.split(size)]), images)


def test_base_and_stages_share_no_noise():
    seeds = torch.cat([stage_seeds(torch.arange(1000), number) for number in range(3)])
    assert len(seeds.unique()) == len(seeds)
    assert torch.equal(stage_seeds(torch.arange(3), 0), torch.arange(3))


def test_s_is_that_of_training_where_none_is_given(files: Path):
    least, zero, more = (cascade(files, at(files, "s16", s)).sample(SEEDS[:2]) for s in (None, 0, 30))
    assert torch.equal(least, zero)
    assert not torch.equal(least, more)


@pytest.mark.parametrize(
    ("base", "stage", "options"),
    [
        ("base", {"s": 30}, {}),
        ("base", {"sampler": Sampler("ddim", "4", eta=0.5)}, {}),
        ("base", {"s": 30, "truncated": True}, {}),
        ("base", {"start_step": 40}, {}),
        ("base", {}, {"base_sampler": Sampler("ddim", "4")}),
        ("hidden", {}, {"base_classifier_free": ClassifierFreeGuidance(4)}),
        ("hidden", {"classifier_free": ClassifierFreeGuidance(4)}, {}),
        ("gan", {}, {"base_truncation": 0.3}),
    ],
)
def test_it_draws_as_another_cascade_of_its_parts(
    files: Path, base: str, stage: dict[str, Any], options: dict[str, Any]
):
    name = {"gan": "p32", "hidden": "s16_hidden"}.get(base, "s16")
    module = cascade(files, at(files, name), base=base)
    ours, theirs = module.sample(SEEDS[:2]), cascade(files, at(files, name, **stage), base=base, **options)
    expected = theirs.sample(SEEDS[:2])
    assert not torch.equal(ours, expected)
    start = {} if base == "gan" else {"base_sampler": ANCESTRAL}
    module.draw_as(Cascade(part(files, base), [at(files, name, **stage)], **(start | options)))
    assert torch.equal(module.sample(SEEDS[:2]), expected)
    told = [list(parameters(kind)) for kind in (Cascade, CascadeStage)]
    for option in module.drawing:
        names, inner = told[option.startswith("stages.0.")], option.removeprefix("stages.0.")
        assert any(each == inner or each.startswith(f"{inner}.") for each in names), option


@pytest.mark.parametrize(
    ("stage", "options", "words"),
    [
        ({"s": 101}, {}, ["--model.stages[0].augmentation_s", "101"]),
        ({"sampler": Sampler(steps=5000)}, {}, ["asks 5000 steps"]),
        ({}, {"base_truncation": 0.5}, ["--model.base_truncation is not of a DDPM"]),
        ({}, {"base_classifier_free": ClassifierFreeGuidance(2)}, ["--model.base_classifier_free is of", "label_drop"]),
        ({"classifier_free": ClassifierFreeGuidance(2)}, {}, ["--model.stages[0].classifier_free is of a network"]),
        (
            {"s": 9, "truncated": True},
            {"base_sampler": Sampler("dpm_solver", 2)},
            ["--model.stages[0].truncated", "dpm"],
        ),
    ],
)
def test_what_its_parts_cannot_do_is_refused_when_it_is_to_draw_so(
    files: Path, stage: dict[str, Any], options: dict[str, Any], words: list[str]
):
    module = cascade(files, at(files, "s16"))
    other = Cascade(part(files, "base"), [at(files, "s16", **stage)], **options)
    tiny.refusal(lambda: module.draw_as(other), *words)


def test_truncated_at_0_is_the_whole_chain_to_the_last_bit(files: Path):
    whole = cascade(files, at(files, "s16", 0)).sample(SEEDS[:3])
    assert torch.equal(cascade(files, at(files, "s16", 0, truncated=True)).sample(SEEDS[:3]), whole)
    base, plain = (
        loaded(DDPM, files, "base", sampler=ANCESTRAL),
        loaded(SuperResolution, files, "s16", sampler=ANCESTRAL),
    )
    condition = {"low_res": base.sample(SEEDS[:3])}
    assert torch.equal(plain.sample(stage_seeds(SEEDS[:3], 1), condition), whole)


@pytest.mark.parametrize(
    ("s", "base_sampler"),
    [(1, Sampler("ddpm", "20")), (37, Sampler("ddpm", "5")), (100, Sampler("ddim", "4", eta=0.5))],
)
def test_the_chain_of_a_truncated_base_stops_with_the_noise_of_s(files: Path, s: int, base_sampler: Sampler):
    """Of a network that knows the clean image, x_s has the mean and the variance of q(x_s | x_0)."""
    module = cascade(files, at(files, "s16", s, truncated=True), base_sampler=base_sampler)
    base, x0 = module.generators[0], 0.6
    assert isinstance(base, DDPM)
    calls: list[int] = []

    def knows(x: torch.Tensor, t: torch.Tensor, **condition: Any) -> torch.Tensor:
        calls.append(int(t[0]))
        alpha_bar = base.diffusion.alphas_cumprod[calls[-1]]
        eps = (x - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5
        return torch.cat([eps, torch.full_like(eps, -1)], 1)  # and the posterior variance

    base.unet.forward = knows  # type: ignore[method-assign]
    z = base.sample_noisy(torch.arange(48), s).double()
    alpha_bar = base.diffusion.alphas_cumprod[s - 1]
    mean, std = alpha_bar**0.5 * x0, (1 - alpha_bar) ** 0.5
    count = z.numel() ** 0.5
    assert abs(z.mean() - mean) < 5 * std / count + 1e-6
    assert abs(z.std() / std - 1) < 5 / count + 1e-6
    assert min(calls, default=s) >= s  # the steps below s are not done


@pytest.mark.parametrize("s", [20, 50])
def test_a_deterministic_chain_stops_exactly_at_s(files: Path, s: int):
    """DDIM of a network that knows the clean image keeps the noise of x_T: x_s = a_s x_0 + b_s eps."""
    module, x0 = cascade(files, at(files, "s16", s, truncated=True), base_sampler=Sampler("ddim", "10")), 0.6
    base = module.generators[0]
    assert isinstance(base, DDPM)

    def knows(x: torch.Tensor, t: torch.Tensor, **condition: Any) -> torch.Tensor:
        alpha_bar = base.diffusion.alphas_cumprod[int(t[0])]
        return ((x - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5).repeat(1, 2, 1, 1)

    base.unet.forward = knows  # type: ignore[method-assign]
    z, noise = base.sample_noisy(SEEDS, s), SeededNoise(SEEDS, torch.device("cpu")).normal(3, 8, 8)
    first, last = base.diffusion.alphas_cumprod[[s - 1, -1]]
    eps = (noise - last**0.5 * x0) / (1 - last) ** 0.5
    torch.testing.assert_close(z, first**0.5 * x0 + (1 - first) ** 0.5 * eps, atol=2e-3, rtol=0)


def test_a_truncated_stage_is_given_the_stopped_chain(files: Path):
    module = cascade(files, at(files, "s16", 30, truncated=True))
    base, enlarges = module.generators
    z = base.sample_noisy(SEEDS[:3], 30)  # type: ignore[union-attr]
    condition = {"noisy_low_res": z, "s": torch.full((3,), 30)}
    images = enlarges.sample(stage_seeds(SEEDS[:3], 1), condition)
    assert torch.equal(module.sample(SEEDS[:3]), images)
    assert not torch.equal(cascade(files, at(files, "s16", 30)).sample(SEEDS[:3]), images)


def test_a_gan_as_base(files: Path):
    module = cascade(files, at(files, "p32"), base="gan", base_truncation=0.5)
    gan = loaded(StyleGAN2, files, "gan", truncation=0.5, init_weights="ema")
    enlarges = loaded(SuperResolution, files, "p32", sampler=ANCESTRAL)
    images = enlarges.sample(stage_seeds(SEEDS[:2], 1), {"low_res": gan.sample(SEEDS[:2])})
    assert torch.equal(module.sample(SEEDS[:2]), images)
    assert (module.num_classes, module.size) == (None, 32)


def test_base_and_stages_draw_the_same_class(files: Path):
    module = cascade(files, at(files, "s16_classes", 0), base="classes")
    assert module.num_classes == 3
    drawn = module.sample(SEEDS)
    by_class = [module.sample(SEEDS, {"label": torch.full((4,), label)}) for label in range(3)]
    which = [[torch.equal(images[i], drawn[i]) for images in by_class] for i in range(4)]
    assert all(sum(same) == 1 for same in which)
    assert len({same.index(True) for same in which}) > 1
    unconditional = cascade(files, at(files, "s16", 0), base="classes")
    assert unconditional.sample(SEEDS[:1]).shape == (1, 3, 16, 16)


def test_offloaded_only_what_draws_stands_on_the_device(files: Path, monkeypatch: pytest.MonkeyPatch):
    moved: list[tuple[str, str]] = []
    for kind in (DDPM, SuperResolution):
        monkeypatch.setattr(kind, "to", lambda self, device: moved.append((type(self).__name__, str(device))))
    module = cascade(files, at(files, "s16", 0), offload=True)
    monkeypatch.setattr(Cascade, "device", torch.device("cpu", 0))
    images = module.sample(SEEDS[:1])
    assert moved == [(name, place) for name in ("DDPM", "SuperResolution") for place in ("cpu:0", "cpu")]
    module.offload = False
    moved.clear()
    assert torch.equal(module.sample(SEEDS[:1]), images)
    assert [place for _, place in moved] == ["cpu:0", "cpu:0"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: cascade(f), ["--model.stages is empty", "tenshot predict --ckpt_path"]),
        (lambda f: cascade(f, at(f, "s32")), ["--model.stages[0].checkpoint", "enlarges 16 x 16", "draws 8 x 8"]),
        (lambda f: cascade(f, at(f, "s16"), at(f, "s16")), ["--model.stages[1].checkpoint", "draws 16 x 16"]),
        (lambda f: cascade(f, at(f, "base")), ["--model.stages[0].checkpoint", "of DDPM, not of SuperResolution"]),
        (lambda f: cascade(f, at(f, "s16"), base="s16"), ["--model.base ", "give it with --model.stages"]),
        (
            lambda f: cascade(f, at(f, "s16_classes")),
            ["--model.stages[0].checkpoint", "3 classes, but the base has none"],
        ),
        (lambda f: cascade(f, at(f, "s16_other_classes"), base="classes"), ["4 classes, but the base has 3"]),
        (lambda f: cascade(f, at(f, "s16", 101)), ["--model.stages[0].augmentation_s is 101", "s = 100 (noise std"]),
        (lambda f: cascade(f, at(f, "p16", 1)), ["--model.stages[0].augmentation_s is 1", "without noise"]),
        (
            lambda f: cascade(f, at(f, "s16", 20, truncated=True), base_sampler=Sampler("dpm_solver", 5)),
            ["--model.stages[0].truncated", "dpm_solver"],
        ),
        (
            lambda f: cascade(f, at(f, "s16", 20), at(f, "s32", 20, truncated=True, sampler=ANCESTRAL, start_step=50)),
            ["--model.stages[1].truncated", "--model.stages[1].start_step"],
        ),
        (lambda f: cascade(f, at(f, "s16", start_step=101)), ["--model.stages[0].start_step is 101"]),
        (lambda f: cascade(f, at(f, "p32"), base="gan", base_sampler=ANCESTRAL), ["--model.base_sampler", "StyleGAN2"]),
        (lambda f: cascade(f, at(f, "s16"), base_truncation=0.5), ["--model.base_truncation", "DDPM"]),
        (lambda f: cascade(f, at(f, "nowhere")), ["nowhere"]),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(files: Path, make: Any, words: list[str]):
    tiny.refusal(lambda: make(files), *words)


def test_a_truncated_stage_after_a_gan_or_another_process(files: Path, tmp_path: Path):
    words = ["--model.stages[0].truncated", "StyleGAN2 has none"]
    tiny.refusal(lambda: cascade(files, at(files, "s32", 5, truncated=True), base="gan"), *words)
    other = saved(tmp_path, stage(augmentation=Augmentation(LowResNoise(50))))
    words = ["counts s in 50 steps, cosine", "has 100 steps, cosine"]
    tiny.refusal(lambda: cascade(files, CascadeStage(other, 5, truncated=True)), *words)
