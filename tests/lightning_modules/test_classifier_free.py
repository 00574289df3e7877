"""DDPM with labels that are hidden now and then, and drawn by classifier-free guidance."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny_stages import NOISY, saved, small, stage
from torch import Tensor

from tenshot.distributed.seeding import SeededNoise, position_seed
from tenshot.lightning_modules import (
    DDPM,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    Sampler,
    SuperResolution,
)
from tenshot.models import UNetConfig

NULL, SCALE = 9, 3.0
NINE: dict[str, Any] = {"unet": tiny.unet_config(num_classes=9)}
SEEDS, LABELS = torch.tensor([4, 9, 2, 7]), torch.tensor([3, 0, 8, 3])


def method(**arguments: Any) -> DDPM:
    """Nine classes and the null class, all weights random."""
    return tiny.randomised(tiny.ddpm(**(NINE | {"label_drop": 0.5} | arguments)))


def guided(*arguments: Any, **options: Any) -> DDPM:
    return method(classifier_free=ClassifierFreeGuidance(*arguments or (SCALE,), **options))


def labels_seen(module: DDPM) -> list[Tensor]:
    """What the network is told from now on."""
    seen: list[Tensor] = []
    module.unet.register_forward_pre_hook(lambda network, inputs, told: seen.append(told["label"]), with_kwargs=True)
    return seen


# Training


def test_a_part_of_the_labels_is_hidden_in_training_by_the_seed_of_the_step(tmp_path: Path):
    module, data = method(), tiny.faces(labels=True, batch_size=8, num_val=8)
    assert module.unet.class_embedding is not None
    before = module.unet.class_embedding.weight.detach().clone()
    first, seen = next(iter(data.train_dataloader()))["label"], labels_seen(module)
    trainer = tiny.trainer(tmp_path, 1, val_check_interval=1, check_val_every_n_epoch=None)
    trainer.fit(module, data)

    torch.manual_seed(position_seed([3, 0, 0, 0, 0]))  # StepSeed's, and what is drawn before
    torch.randint(1000, (8,)), torch.randn(8, 3, 16, 16)
    hidden = torch.rand(8) < 0.5
    assert 1 < hidden.sum() < 7
    assert seen[0].tolist() == torch.where(hidden, NULL, first).tolist()
    assert data.val_source is not None
    assert seen[1].tolist() == data.val_source.read(range(8))["label"].tolist()  # in validation none
    moved = (module.unet.class_embedding.weight != before).any(1).nonzero().flatten().tolist()
    assert moved == sorted({NULL, *first[~hidden].tolist()})


def test_how_many_labels_are_hidden():
    condition = {"label": torch.arange(20_000) % 9, "low_res": torch.zeros(20_000, 1)}
    hidden = method(label_drop=0.1).some_hidden(condition)
    assert hidden is not None
    assert hidden["low_res"] is condition["low_res"]
    null = hidden["label"] == NULL
    assert null.float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(hidden["label"][~null], condition["label"][~null])


def test_a_network_without_a_null_class_is_what_it_was():
    """And nothing is drawn for hiding: the random numbers of old runs stay as they are."""
    module = tiny.ddpm(**NINE)
    state = torch.get_rng_state()
    assert module.some_hidden({"label": LABELS}) == {"label": LABELS}
    assert torch.equal(torch.get_rng_state(), state)
    assert module.unet.class_embedding is not None
    assert len(module.unet.class_embedding.weight) == 9
    assert not UNetConfig(**{k: v for k, v in vars(module.unet.config).items() if k != "null_class"}).null_class


# Weights to start from


def public_file(folder: Path, module: DDPM) -> str:
    torch.save(tiny.public_state(module.unet.state_dict()), folder / "public.pt")
    return str(folder / "public.pt")


@pytest.mark.parametrize("kind", ["checkpoint", "weights", "public"])
def test_classes_are_kept_and_the_null_class_begins_as_their_mean(tmp_path: Path, kind: str):
    source, more = tiny.randomised(tiny.ddpm(**NINE)), {}
    match kind:
        case "checkpoint":
            file = saved(tmp_path, source)
        case "weights":
            file = str(tiny.weights_file(tmp_path / "weights.safetensors", source))
        case _:
            file, more = public_file(tmp_path, source), NINE | {"diffusion": source.diffusion.config}
    module = DDPM(init_from=file, label_drop=0.1, sampler=tiny.QUICK, **more)
    module.configure_model()
    ours, theirs = module.unet.state_dict(), source.unet.state_dict()
    rows = ours.pop("class_embedding.weight")
    torch.testing.assert_close(rows[NULL], rows[:NULL].mean(0))
    tiny.assert_same({**ours, "class_embedding.weight": rows[:NULL]}, dict(theirs))
    assert torch.equal(module.sample(SEEDS, {"label": LABELS}), source.sample(SEEDS, {"label": LABELS}))


def test_a_null_class_that_was_trained_is_kept(tmp_path: Path):
    source = method()
    for more in ({}, {"label_drop": 0.2}, {"unet": tiny.unet_config(num_classes=9, null_class=True)}):
        module = DDPM(init_from=saved(tmp_path, source), **more)
        module.configure_model()
        tiny.assert_same(module.state_dict(), source.state_dict())
        assert module.num_classes == 9


# Drawing


def two_steps(module: DDPM, guide: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """DDIM of two steps of 1000 by hand, with the noise guided."""
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    x = SeededNoise(SEEDS, torch.device("cpu")).normal(3, 16, 16)
    for t, then in ((500, alpha_bar[0]), (0, 1.0)):
        now, times = alpha_bar[t], torch.full((4,), t)
        with torch.no_grad():
            both = [module.unet(x, times, label=label)[:, :3] for label in (LABELS, torch.full((4,), NULL))]
        eps = guide(*both)
        x0 = ((x - (1 - now) ** 0.5 * eps) / now**0.5).clamp(-1, 1)
        eps = (x - now**0.5 * x0) / (1 - now) ** 0.5
        x = then**0.5 * x0 + (1 - then) ** 0.5 * eps
    return x.clamp(-1, 1)


def plain(conditional: Tensor, null: Tensor) -> Tensor:
    return null + SCALE * (conditional - null)


def normalised(conditional: Tensor, null: Tensor, analytic: bool = False) -> Tensor:
    guided, dims = plain(conditional, null), (1, 2, 3)
    ours, its, without = (x.std(dims, correction=0, keepdim=True) for x in (guided, conditional, null))
    size = its / ((SCALE * its) ** 2 + ((SCALE - 1) * without) ** 2) ** 0.5 if analytic else its / ours
    return size * (guided - guided.mean(dims, keepdim=True)) + conditional.mean(dims, keepdim=True)


FORMULAS: list[tuple[dict[str, Any], Callable[[Tensor, Tensor], Tensor]]] = [
    ({}, plain),
    ({"normalize": "image"}, normalised),
    ({"normalize": "image", "phi": 0.25}, lambda c, n: 0.25 * normalised(c, n) + 0.75 * plain(c, n)),
    ({"normalize": "image", "analytic": True}, lambda c, n: normalised(c, n, True)),
]


@pytest.mark.parametrize(("options", "formula"), FORMULAS, ids=lambda case: str(case) if isinstance(case, dict) else "")
def test_images_are_those_of_the_formula(options: dict[str, Any], formula: Callable[[Tensor, Tensor], Tensor]):
    module = guided(SCALE, **options)
    seen = labels_seen(module)
    drawn = module.sample(SEEDS, {"label": LABELS})
    assert [told.tolist() for told in seen] == [[*LABELS.tolist(), *[NULL] * 4]] * 2  # one call a step
    module.eval()
    expected = two_steps(module, formula)
    torch.testing.assert_close(drawn, expected, rtol=1e-3, atol=1e-4)
    assert (drawn - method().sample(SEEDS, {"label": LABELS})).abs().max() > 0.05


@pytest.mark.parametrize("sampler", [Sampler("ddpm", "2"), Sampler("ddim", "ddim2", eta=0.5), Sampler("dpm_solver", 2)])
def test_an_image_depends_on_its_seed_alone_to_the_last_bit(sampler: Sampler):
    module = method(sampler=sampler, classifier_free=ClassifierFreeGuidance(SCALE, "channel", interval=(1, 900)))
    seeds = torch.tensor([4, 9, 2, 7, 5])
    together = module.sample(seeds)
    assert torch.equal(torch.cat([module.sample(part) for part in seeds.split(2)]), together)
    assert together.isfinite().all()


def test_scale_1_draws_what_is_drawn_without_guidance_and_as_fast():
    module, plain = guided(1.0), method()
    seen = labels_seen(module)
    assert torch.equal(module.sample(SEEDS, {"label": LABELS}), plain.sample(SEEDS, {"label": LABELS}))
    assert [len(told) for told in seen] == [4, 4]


def test_out_of_the_interval_it_is_asked_once():
    module = guided(SCALE, interval=(2, 501))  # ddim2 visits the steps that are 501 and 1, counted from 1
    seen = labels_seen(module)
    module.sample(SEEDS, {"label": LABELS})
    assert [len(told) for told in seen] == [8, 4]


def test_predict_test_and_previews_are_guided_alike():
    module, condition = guided(), {"label": LABELS}
    module.preview_sampler = module.sampler
    drawn, batch = module.sample(SEEDS, condition), {"index": SEEDS, "seed": SEEDS, "condition": condition}
    for images in (
        module.predict_step(batch, 0)["image"],
        module.test_step(batch, 0),
        module.sample(SEEDS, condition, preview=True),
    ):
        assert torch.equal(images, drawn)


def test_a_classifier_may_pull_besides(tmp_path: Path):
    by_judge = ClassifierGuidance(saved(tmp_path, tiny.randomised(tiny.classifier())), 300.0)  # type: ignore[arg-type]
    both = method(classifier_free=ClassifierFreeGuidance(SCALE), guidance=by_judge)
    images = [module.sample(SEEDS, {"label": LABELS}) for module in (both, guided(), method(guidance=by_judge))]
    assert all((images[0] - other).abs().max() > 0.05 for other in images[1:])


def test_a_stage_is_told_the_same_small_image_with_and_without_the_class():
    module = tiny.randomised(
        stage(**NINE, augmentation=NOISY, label_drop=0.2, classifier_free=ClassifierFreeGuidance(SCALE))
    )
    assert isinstance(module, SuperResolution)
    told: list[dict[str, Tensor]] = []
    module.unet.register_forward_pre_hook(lambda network, inputs, given: told.append(given), with_kwargs=True)
    module.sample(SEEDS, {"low_res": small(4), "label": LABELS, "s": torch.tensor([0, 3, 20, 40])})
    assert told[0]["label"].tolist() == [*LABELS.tolist(), *[NULL] * 4]
    for name in ("low_res", "s"):
        first, second = told[0][name].chunk(2)
        assert torch.equal(first, second)


def test_training_that_hides_no_labels_any_more_says_so(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    for drop in (0.0, 0.1):
        recwarn.clear()
        module = tiny.ddpm(unet=tiny.unet_config(num_classes=9, null_class=True), label_drop=drop)
        tiny.trainer(tmp_path, 0).fit(module, tiny.faces(labels=True))
        module.on_fit_start()
        told = [str(warning.message) for warning in recwarn if "--model.label_drop" in str(warning.message)]
        assert bool(told) == (drop == 0)


# What cannot be


BAD: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "w < 0": (lambda: ClassifierFreeGuidance(0.7), ("classifier_free.scale is 0.7: choose at least 1", "scale - 1")),
    "no number": (lambda: ClassifierFreeGuidance(float("nan")), ("scale is nan",)),
    "phi": (lambda: ClassifierFreeGuidance(2, "image", phi=1.5), ("classifier_free.phi is 1.5",)),
    "normalize": (lambda: ClassifierFreeGuidance(2, "pixel"), ("normalize 'pixel' is unknown",)),  # type: ignore[arg-type]
    "plain phi": (lambda: ClassifierFreeGuidance(2, phi=0.5), (".phi are of normalised guidance",)),
    "turned round": (lambda: ClassifierFreeGuidance(2, interval=(5, 4)), ("interval is [5, 4]: give the least",)),
    "too long": (lambda: guided(interval=(5, 1001)), ("classifier_free.interval is 1001: choose 1 to 1000",)),
    "never without": (lambda: guided_network(NINE), ("--model.classifier_free is of a network", "label_drop 0.1")),
    "no classes": (lambda: guided_network({}), ("--model.classifier_free is of a network", "label_drop 0.1")),
    "all hidden": (lambda: method(label_drop=1.0), ("--model.label_drop is 1.0",)),
    "nothing to hide": (
        lambda: tiny.ddpm(label_drop=0.1),
        ("label_drop is 0.1", "set --model.unet.num_classes"),
    ),
    "null of none": (lambda: tiny.unet_config(null_class=True), ("unet.null_class", "set unet.num_classes")),
}


def guided_network(arguments: dict[str, Any]) -> DDPM:
    return tiny.ddpm(**arguments, classifier_free=ClassifierFreeGuidance(SCALE))


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(case: str):
    action, words = BAD[case]
    tiny.refusal(action, *words)


def test_weights_without_classes_have_no_label_to_hide(tmp_path: Path):
    file = saved(tmp_path, tiny.ddpm())
    module = DDPM(init_from=file, label_drop=0.1)
    tiny.refusal(module.configure_model, file, "without classes", "leave out --model.label_drop")


def test_guidance_of_a_search_is_refused_too():
    module, other = tiny.ddpm(**NINE), tiny.ddpm(**NINE)
    other.classifier_free = ClassifierFreeGuidance(SCALE)
    tiny.refusal(lambda: module.draw_as(other), "--model.classifier_free is of a network")


def test_ddpm_pa_s_source_must_know_the_null_class(tmp_path: Path):
    file = tiny.weights_file(tmp_path / "source.safetensors", tiny.randomised(tiny.ddpm(**NINE)))
    module = tiny.ddpm_pa(file, label_drop=0.1)
    tiny.refusal(
        lambda: tiny.trainer(tmp_path, 1).fit(module, tiny.faces(labels=True)), "the source's unet.null_class is False"
    )
