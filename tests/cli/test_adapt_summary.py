"""What ``tenshot adapt`` says at its end, of runs made by hand."""

from pathlib import Path

import pytest
import tiny
import torch
from run_folders import config, evaluation, make_run

from tenshot.checkpoints import UNET
from tenshot.cli.adapt.choice import WAYS, Source, recipe_for
from tenshot.cli.adapt.commands import Plan
from tenshot.cli.adapt.summary import results


def ended(folder: Path, best: int | None, nearness: dict[int, float], shots: int = 10, tells: bool = True) -> Plan:
    """A run of 40 steps with this nearness by step, and the plan that it followed."""
    measured = []
    for step, value in nearness.items():
        result = evaluation(step, 1.0, 0.5)
        result["values"]["nearest_dist_efficientnet_lite0_copies"] = step / 100
        result["metrics"]["nearness"] = {
            "values": {"nearness_x": value},
            "settings": {"n_real": shots, "n_generated": 50},
            "details": {},
        }
        measured.append(result)
    make_run(folder, config(), measured)
    if best is not None:
        torch.save({"global_step": best}, folder / "checkpoints/best.ckpt")
    recipe = recipe_for(WAYS["finetune"], 64)
    return Plan(Source("a", UNET, 64), recipe, "mine", folder, 40, 5, 0, None, tells)


@pytest.mark.parametrize(
    ("best", "nearness", "shots", "said"),
    [
        (20, {10: 0.2, 20: 0.5, 30: 0.6, 40: 0.7}, 10, None),
        (20, {10: 0.2, 20: 0.5, 30: 0.9, 40: 0.95}, 10, "from step 30 on, after the best one: nearness_x is 0.9,"),
        (20, {10: 0.0, 20: 0.9}, 10, "samples of step 20 are copies, so look at those of the best one: more images"),
        (10, {10: 0.9, 20: 0.95}, 3, "of so few images nothing tells copies"),
    ],
)
def test_the_best_step_its_files_and_copies(
    tmp_path: Path, best: int, nearness: dict[int, float], shots: int, said: str | None
):
    found = dict(results(ended(tmp_path / "run", best, nearness, shots)))
    assert found["best"].startswith(f"step {best} of 40, ")
    assert f"samples/step={best:08d}.png: " in found["grid"]
    assert found.get("copies", "").startswith(said or "")
    assert ("copies" in found) == (said is not None)


def test_where_the_last_step_is_the_best_more_may_help(tmp_path: Path):
    assert dict(results(ended(tmp_path / "run", 40, {40: 0.5})))["best"].endswith("more may help: --steps 80")
    assert "--steps" not in dict(results(ended(tmp_path / "other", 20, {20: 0.5})))["best"]


def test_a_run_that_kept_no_step_is_told_in_a_line(tmp_path: Path):
    tiny.refusal(lambda: results(ended(tmp_path / "run", None, {20: 0.5})), "best.ckpt: not there")


def test_where_nearness_tells_nothing_the_last_step_counts(tmp_path: Path):
    found = dict(results(ended(tmp_path / "run", None, {20: 0.9, 40: 0.9}, tells=False)))
    assert found["last"] == f"step 40 of 40: {tmp_path / 'run'}"
    assert found["copies"].startswith("40% of the samples are copies")
    assert "samples/step=00000040.png" in found["grid"]
    assert f"--ckpt_path {tmp_path / 'run'} " in found["samples"]
