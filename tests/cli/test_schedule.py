"""Every recipe can be prolonged: its schedule has as many steps as training, or a line says what to set."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from jsonargparse import Namespace

from tenshot.cli.schedule import fit_schedule
from tenshot.errors import InputError

CONFIGS = Path(__file__).parents[2] / "configs"
SCHEDULED = {
    str(path.relative_to(CONFIGS)): recipe
    for path in sorted(CONFIGS.glob("**/*.yaml"))
    if (recipe := yaml.safe_load(path.read_text())).get("model", {}).get("init_args", {}).get("lr_scheduler")
}
IN_STEPS = [name for name, recipe in SCHEDULED.items() if "MultiStepLR" in str(recipe["model"])]
"""Those that say at which steps the rate falls, as published: of the length that the recipe has, not of any."""


def schedule(name: str, **options: Any) -> Namespace:
    options = {"OneCycleLR": {"total_steps": None, "epochs": None, "steps_per_epoch": None}}.get(name, {}) | options
    path = f"torch.optim.lr_scheduler.{name}"
    return Namespace(lr_scheduler=Namespace(class_path=path, init_args=Namespace(**options)))


def rates(init_args: Namespace, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    kind = getattr(torch.optim.lr_scheduler, init_args.lr_scheduler.class_path.rpartition(".")[2])
    made, found = kind(optimizer, **vars(init_args.lr_scheduler.init_args)), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    return found


@pytest.mark.parametrize("name", [name for name in SCHEDULED if name not in IN_STEPS])
@pytest.mark.parametrize("factor", [0.5, 1, 2])
def test_a_recipe_of_any_length(name: str, factor: float):
    recipe = SCHEDULED[name]
    found = recipe["model"]["init_args"]["lr_scheduler"]
    init_args = schedule(found["class_path"].rpartition(".")[2], **found["init_args"])
    steps = int(min(recipe["trainer"]["max_steps"], 5000) * factor)
    fit_schedule(init_args, steps)
    learnt = rates(init_args, steps)
    assert min(learnt) > 0
    assert learnt[-1] < 0.01 * max(learnt)


@pytest.mark.parametrize("name", IN_STEPS)
def test_a_rate_that_falls_at_steps_has_fallen_before_the_end_of_its_recipe(name: str):
    recipe = SCHEDULED[name]
    options, steps = recipe["model"]["init_args"]["lr_scheduler"]["init_args"], recipe["trainer"]["max_steps"]
    assert max(options["milestones"]) < 0.95 * steps
    assert options["gamma"] ** len(options["milestones"]) < 0.01


def test_there_are_recipes_with_schedules():
    assert len(SCHEDULED) >= 7
    assert IN_STEPS == ["cas/resnet50_256.yaml"]


@pytest.mark.parametrize("asked", [None, 12])
def test_one_cycle_goes_over_all_of_training(asked: int | None):
    init_args = schedule("OneCycleLR", max_lr=1.0, total_steps=asked)
    fit_schedule(init_args, 8)
    assert init_args.lr_scheduler.init_args.total_steps == (asked or 8)
    with pytest.raises(InputError, match=r"OneCycleLR goes over all of training: set --trainer.max_steps"):
        fit_schedule(init_args, -1)


def test_one_cycle_by_epochs_is_as_long_as_they_are():
    init_args = schedule("OneCycleLR", max_lr=1.0, epochs=2, steps_per_epoch=3)
    fit_schedule(init_args, 6)
    assert init_args.lr_scheduler.init_args.total_steps is None
    assert min(rates(init_args, 6)) < 0.01
    with pytest.raises(InputError, match=r"total_steps is 6, --trainer.max_steps 7, and OneCycleLR cannot go beyond"):
        fit_schedule(init_args, 7)


@pytest.mark.parametrize("half", [{"epochs": 2}, {"steps_per_epoch": 3}, {"epochs": 0, "steps_per_epoch": 3}])
def test_half_of_that_tells_no_length(half: dict[str, int]):
    init_args = schedule("OneCycleLR", max_lr=1.0, **half)
    fit_schedule(init_args, 8)
    assert init_args.lr_scheduler.init_args.total_steps == 8


@pytest.mark.parametrize("steps", [0, 1])
def test_one_cycle_of_no_step_can_be_built(steps: int):
    init_args = schedule("OneCycleLR", max_lr=1.0)
    fit_schedule(init_args, steps)
    assert rates(init_args, 1)
    assert init_args.lr_scheduler.init_args.total_steps == 1


@pytest.mark.parametrize(
    ("name", "options", "last"),
    [
        ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": -1}, 1 / 8),
        ("PolynomialLR", {"power": 2.0, "total_iters": -1}, (1 / 8) ** 2),
        ("CosineAnnealingLR", {"T_max": -1}, (1 + math.cos(math.pi * 7 / 8)) / 2),
    ],
)
def test_so_do_others_whose_total_is_left_open(name: str, options: dict[str, Any], last: float):
    init_args = schedule(name, **options)
    with pytest.raises(InputError, match=f"{name} goes over all of training: set --trainer.max_steps"):
        fit_schedule(init_args, -1)
    fit_schedule(init_args, 8)
    assert rates(init_args, 8)[-1] == pytest.approx(last)


@pytest.mark.parametrize(
    ("init_args", "option"),
    [
        (schedule("OneCycleLR", max_lr=1.0, total_steps=4), "total_steps to 6 or null, which follows it"),
        (
            schedule("LinearLR", start_factor=1.0, end_factor=0.0, total_iters=4),
            "total_iters to 6 or -1, which follows it",
        ),
        (schedule("PolynomialLR", total_iters=4, power=1.0), "total_iters to 6 or -1, which follows it"),
    ],
)
def test_a_schedule_that_ends_before_training_is_refused(init_args: Namespace, option: str):
    with pytest.raises(InputError) as raised:
        fit_schedule(init_args, 6)
    assert str(raised.value).endswith(f"set --model.lr_scheduler.{option}")
    fit_schedule(init_args, 4)


@pytest.mark.parametrize(
    "init_args",
    [
        Namespace(lr_scheduler=None), Namespace(), schedule("StepLR", step_size=1),
        schedule("LinearLR", start_factor=0.1, end_factor=1.0, total_iters=4),
    ],
)  # fmt: skip
def test_others_go_on(init_args: Namespace):
    before = init_args.clone()
    fit_schedule(init_args, 6)
    assert init_args == before


@pytest.mark.parametrize(
    ("name", "options", "total"),
    [
        ("OneCycleLR", {"max_lr": 0.01}, "total_steps"),
        ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": -1}, "total_iters"),
    ],
)
def test_a_finished_run_is_prolonged_by_its_steps_alone(
    tenshot: tiny.Run, tmp_path: Path, name: str, options: dict[str, Any], total: str
):
    course = {"class_path": f"torch.optim.lr_scheduler.{name}", "init_args": options}
    config = tiny.config_file(tmp_path, {"model": {"init_args": {"lr_scheduler": course}}})
    words = ["fit", "--config", config, "--trainer.default_root_dir", tmp_path / "run"]
    assert tenshot(*words).status == 0
    outcome = tenshot("fit", "--ckpt_path", tmp_path / "run", "--trainer.max_steps", "5")
    assert outcome.status == 0, outcome.err
    assert f"resume: {name} is at step 2 of its new course" in outcome.log
    found = torch.load(tmp_path / "run" / "checkpoints" / "step=00000005.ckpt", weights_only=True)
    assert found["lr_schedulers"][0][total] == 5
    assert found["lr_schedulers"][0]["last_epoch"] == 5
