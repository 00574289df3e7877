"""Drawing what the page of ``tenshot paint`` asks for: as it says, in the trainer's precision, until it is stopped."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tiny
import tiny_conditions
import torch
from lightning.pytorch.plugins import MixedPrecision
from PIL import Image
from tiny_piti import TINY, masks, piti

from tenshot.callbacks.drawn_by import DrawnBy
from tenshot.callbacks.image_writer import to_uint8
from tenshot.cli.paint import drawing
from tenshot.cli.paint.canvas import canvas_for
from tenshot.cli.paint.drawing import Drawing, Paint, Wish
from tenshot.lightning_modules import PITI, Cascade, Sampler
from tenshot.lightning_modules.guidance import ClassifierFreeGuidance

FIVE = Sampler("ddim", "5")


def method(**options: Any) -> PITI:
    return tiny.randomised(piti(piti=TINY, condition_drop=0.2, **options))


def wish(**changes: Any) -> Wish:
    asked = {"condition": masks(1)[0], "seed": 1, "first": 0, "count": 2, "sampler": FIVE, "scale": 1.0}
    return Wish(**(asked | changes))


def painter() -> Paint:
    paint = Paint(cast(Any, None), None, None, {})
    paint.by = DrawnBy({"seed": 0}, {"weights": "ema"})
    return paint


def told_of(module: PITI | Cascade, asked: Wish) -> list[Mapping[str, Any]]:
    told: list[Mapping[str, Any]] = []
    painter().draw(module, Drawing(asked, told.append))
    return told


def image(told: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(told["image"]))))


def sampled(module: PITI | Cascade, asked: Wish) -> np.ndarray:
    seeds = (asked.seed << 32) + torch.arange(asked.first, asked.first + asked.count)
    rows = asked.condition.expand(asked.count, *asked.condition.shape)
    return to_uint8(module.sample(seeds, {"condition_image": rows})).numpy()


def test_steps_and_estimates_are_told_then_images(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drawing, "BETWEEN", -1.0)
    module, asked = method(sampler=FIVE), wish(first=6, count=6)
    told = told_of(module, asked)
    steps = [one for one in told if "steps" in one]
    assert [(one["first"], *one["steps"]) for one in steps] == [(6, s, 5) for s in range(1, 6)] + [
        (10, s, 5) for s in range(1, 6)
    ]
    assert [len(one["images"]) for one in steps] == [4, 4, 4, 4, 0, 2, 2, 2, 2, 0]
    assert [one["number"] for one in told if "number" in one] == [6, 7, 8, 9, 10, 11]
    assert (np.stack([image(one) for one in told if "number" in one]) == sampled(module, asked)).all()
    assert told[-1] == {"end": True}
    assert module.progress is None


def test_the_run_s_own_options_are_back_afterwards():
    free = ClassifierFreeGuidance(3.0, normalize="image")
    module = method(classifier_free=free)
    before = module.sampler
    told = told_of(module, wish(scale=2.0))
    assert (module.sampler, module.classifier_free) == (before, free)
    other = method(sampler=FIVE, classifier_free=ClassifierFreeGuidance(2.0, normalize="image"))
    assert (image(told[-2]) == sampled(other, wish())[1]).all()
    assert (image(told_of(module, wish())[-2]) != image(told[-2])).any()


def test_what_the_page_has_no_control_for_is_the_run_s():
    module = method(sampler=Sampler("ddim", "5", eta=0.7, temperature=0.9))
    drawn = image(told_of(module, wish())[-2])
    assert (drawn == sampled(module, wish())[1]).all()
    assert (drawn != sampled(method(sampler=FIVE), wish())[1]).any()


def test_a_cascade_is_drawn_from_with_the_sampler_and_the_guidance_of_the_page_for_its_base(tmp_path: Path):
    tiny_conditions.parts(tmp_path)
    module = tiny_conditions.cascade(tmp_path)
    condition = torch.randint(256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    asked = wish(condition=condition, scale=2.0)
    before = module.generators[0].sampler
    told = told_of(module, asked)
    free = ClassifierFreeGuidance(2.0)
    expected = sampled(tiny_conditions.cascade(tmp_path, base_sampler=FIVE, base_classifier_free=free), asked)
    assert (np.stack([image(one) for one in told if "number" in one]) == expected).all()
    assert (expected != sampled(module, asked)).any()
    assert (module.generators[0].sampler, module.generators[0].classifier_free) == (before, None)
    assert {one["steps"][1] for one in told if "steps" in one} == {5, 2}


def test_the_precision_is_the_trainer_s():
    module = method(sampler=FIVE)
    plain = image(told_of(module, wish())[-2])
    precision = MixedPrecision("bf16-mixed", "cpu")
    module._trainer = cast(Any, SimpleNamespace(precision_plugin=precision))
    with torch.autocast("cpu", torch.bfloat16):
        half = sampled(module, wish())[1]
    assert (image(told_of(module, wish())[-2]) == half).all()
    assert (plain != half).any()


def test_what_nobody_waits_for_is_not_drawn_on():
    module, told = method(), list[Mapping[str, Any]]()
    asked = Drawing(wish(), lambda one: (told.append(one), asked.stopped.set()))  # type: ignore[arg-type, return-value]
    painter().draw(module, asked)
    assert [one["steps"] for one in told] == [[1, 5]]
    told.clear()
    painter().draw(module, asked)
    assert told == []
    assert (module.sampler, module.progress) == (tiny.QUICK, None)


def broken(module: PITI, error: Exception) -> PITI:
    def raises(*_: Any) -> Any:
        raise error

    module.told = raises  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize(
    ("module", "changes", "words"),
    [
        (method(), {"sampler": Sampler("ddim", "5000")}, "5000"),
        (method(), {"sampler": Sampler("dpm_solver", "5000")}, "sampler.steps is 5000"),
        (piti(piti=TINY), {"scale": 2.0}, "train it with condition_drop 0.2"),
        (broken(method(), torch.OutOfMemoryError("Tried to allocate 2.00 GiB")), {}, "2.00 GiB more were asked for"),
        (broken(method(), RuntimeError("shapes\ndiffer")), {}, "RuntimeError: shapes differ (more in the terminal)"),
    ],
)
def test_what_goes_wrong_is_one_line_and_no_end(module: PITI, changes: dict[str, Any], words: str):
    error, end = told_of(module, wish(**changes))
    assert words in error["error"]
    assert "\n" not in error["error"]
    assert end == {"end": True}


def test_weights_that_are_none_are_told():
    module = method()
    next(module.unet.parameters()).data.fill_(torch.nan)
    assert "not finite" in told_of(module, wish())[-2]["error"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**31}, "seed is"),
        ({"seed": "1"}, "seed is '1'"),
        ({"count": 65}, "samples is 65"),
        ({"count": True}, "count is True"),
        ({"first": 2**32}, "first sample is"),
        ({"scale": 0.5}, "guidance is 0.5"),
        ({"scale": None}, "guidance is None"),
        ({"method": "euler"}, "sampler 'euler'"),
        ({"steps": 5}, "steps 5"),
        ({"method": "dpm_solver", "steps": "ddim5"}, "dpm_solver takes a number of steps"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(changes: dict[str, Any], words: str):
    paint = painter()
    paint.canvas = canvas_for(method(), tiny.faces(num_val=1, pairs="mask"), None, {})
    asked = {"seed": 0, "first": 0, "count": 1, "method": "ddim", "steps": "5", "scale": 1}
    cells = bytes(32 * 32)
    tiny.refusal(lambda: paint.ask(asked | changes, cells, print), words)
    stopped = paint.ask(asked, cells, print)
    assert paint.wanted.get_nowait().stopped is stopped
