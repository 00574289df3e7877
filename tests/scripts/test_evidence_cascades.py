"""The cascades of docs/evidence.md: what is planned, that each command finds what it needs, what the page says."""

import json
import math
import re
import shlex
import sys
from pathlib import Path

import pytest
import tiny
import yaml

TOP = Path(__file__).parents[2]
sys.path.append(str(TOP))

from scripts.evidence import __main__ as command  # noqa: E402
from scripts.evidence import cascade_page, page, plan, results  # noqa: E402
from scripts.evidence.cascades import BASE, CURVE, FEW, FEW_ONE, NAME, ONE, PARTS, STAGES, CascadeRun, runs  # noqa: E402
from scripts.evidence.plan import TOY  # noqa: E402


def run_of(root: Path, title: str, scale: plan.Scale = plan.FULL) -> CascadeRun:
    return next(run for run in runs(root, scale) if run.title == title)


# The plan


def test_the_plan_is_whole_and_takes_less_than_two_and_a_half_hours_of_two_cores(tmp_path: Path):
    planned = runs(tmp_path)
    assert sorted((run.name, run.seed) for run in planned) == sorted(
        (name, seed) for name in PARTS for seed in (1, 2, 3)
    )
    assert len({run.folder for run in planned}) == len(planned)
    assert plan.hours(planned) < 5


def test_the_one_model_takes_the_time_of_the_cascade():
    for one, others in ((ONE, (BASE, *STAGES)), (FEW_ONE, FEW)):
        assert one.cost == pytest.approx(sum(part.cost for part in others), rel=0.01)


def test_sizes_are_those_of_the_recipes():
    for part in (part for parts in PARTS.values() for part in parts):
        recipe = yaml.safe_load((TOP / part.recipe).read_text())
        assert recipe["data"]["init_args"]["image_size"] == part.size


def test_every_command_finds_the_checkpoints_that_it_names(tmp_path: Path):
    """Each is made by an earlier command of the run, or of one that it waits for."""
    planned = runs(tmp_path)
    made_by = {run.folder: {str(run.folder / task.done) for task in run.tasks()} for run in planned}
    for run in planned:
        there, before = set[str](), run
        while before.needs is not None:
            assert str(before.needs) in made_by[before.needs.parents[2]]
            there |= made_by[before.needs.parents[2]]
            before = next(one for one in planned if one.folder == before.needs.parents[2])
        for task in run.tasks():
            named = set(re.findall(rf"{tmp_path}[^ ,}}]*\.ckpt", " ".join(task.argv)))
            assert named <= there, task.line
            there.add(str(run.folder / task.done))


def test_what_a_run_needs_is_chosen_with_it_down_to_the_base(tmp_path: Path):
    planned = runs(tmp_path)
    chosen = command.chosen(list(planned), "few-shot cascade/2/sunglasses")
    assert [run.title for run in chosen] == ["base/2/faces", "cascade/2/faces", "few-shot cascade/2/sunglasses"]


def test_only_the_augmented_cascade_is_told_s_and_one_of_two_is_truncated(tmp_path: Path):
    def stages(title: str, where: str) -> list[dict[str, object]]:
        task = next(task for task in run_of(tmp_path, title).tasks() if task.name == where)
        return yaml.safe_load(task.argv[task.argv.index("--model.stages") + 1])

    whole, truncated = stages("cascade/1/faces", "last"), stages("cascade/1/faces", "truncated")
    assert [one.pop("truncated") for one in truncated] == [True, True]
    assert whole == truncated
    assert all(isinstance(one["augmentation_s"], int) for one in whole)
    for plain in stages("cascade, no augmentation/1/faces", "last"):
        assert plain.keys() == {"checkpoint", "sampler"}
    [first] = stages("cascade/1/faces", f"generated_{CURVE[-1]}")
    assert first["augmentation_s"] == CURVE[-1]
    names = [task.name for task in run_of(tmp_path, "cascade, no augmentation/1/faces").tasks()[:2]]
    assert names == ["train_32", "train_64"]


@pytest.mark.parametrize(
    ("title", "name"),
    [("cascade, no augmentation/1/faces", "train_32"), ("cascade/1/faces", "truncated"),
     ("few-shot cascade/1/sunglasses", "train_64")],
)  # fmt: skip
def test_tenshot_takes_the_options(
    tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str, name: str
):
    monkeypatch.chdir(TOP)
    task = next(task for task in run_of(tmp_path, title, TOY).tasks() if task.name == name)
    outcome = tenshot(*task.argv, "--print_config")
    assert outcome.status == 0, outcome.err
    asked = yaml.safe_load(outcome.out)
    method, data = asked["model"]["init_args"], asked["data"]["init_args"]
    if "no augmentation" in title:
        assert method["augmentation"] is None
    if name == "truncated":
        assert [stage["truncated"] for stage in method["stages"]] == [True, True]
    assert (data["seed"], data["shots"]) == (
        (1, 10) if "few-shot" in title else (0, None)
    )  # heads of the source have 0


# Rows and page


def row(method: str, seed: int, fd: float, target: str = "faces") -> results.Row:
    group = "curve" if ", s = " in method else "methods"
    about = {"set": NAME, "target": target, "method": method, "seed": str(seed), "group": group, "minutes": "60"}
    return about | {"fd": str(fd)}


def test_the_order_counts_seeds_and_says_the_shape_of_curves():
    rows = [row("one model", seed, 5.0) for seed in (1, 2, 3)]
    rows += [row("cascade, no augmentation", seed, fd) for seed, fd in enumerate((6.0, 7.0, 4.0), start=1)]
    rows += [row("cascade", seed, fd) for seed, fd in enumerate((4.0, 4.5), start=1)]
    rows += [row("cascade, truncated", seed, fd) for seed, fd in enumerate((4.5, 4.0), start=1)]
    inner, ends = (3.0, 2.0, 1.0, 2.0, 3.0), (1.0, 2.0, 3.0, 4.0, 5.0)
    for seed, curve in enumerate((inner, ends), start=1):
        rows += [row(f"generated, s = {s}", seed, fd) for s, fd in zip(CURVE, curve, strict=True)]
        rows += [row(f"true, s = {s}", seed, fd) for s, fd in zip(CURVE, curve, strict=True)]
    made = page.filled(f"<!-- evidence: cascade_order {NAME} -->\n<!-- end -->", rows)
    assert "| one model than cascade, no augmentation (paper: better) | 2 of 3 |" in made
    assert "| cascade than one model (paper: better) | 2 of 2 |" in made
    assert "(paper: about 0) | 0.00 ± 0.71 |" in made
    assert "from generated images: its minimum inside (paper) | 1 of 2 |" in made
    assert "from true images: growing with s (paper) | 1 of 2 |" in made
    assert "few-shot" not in made
    table = page.filled(f"<!-- evidence: cascade_curve {NAME} -->\n<!-- end -->", rows)
    left = [
        math.cos((s / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for s in (0, 150)
    ]  # signal, before it is normalised
    noise = math.sqrt(1 - left[1] / left[0])
    assert f"| s = 150 (noise std {noise:.3f}) | 2.00 ± 1.41 | 2.00 ± 1.41 |" in table
    compared = page.filled(f"<!-- evidence: cascade_table {NAME} faces -->\n<!-- end -->", rows)
    assert "| one model | 3 | 5.0 ± 0.0 |" in compared
    assert ", s = " not in compared


def test_a_curve_with_its_minimum_at_an_end_has_none_inside():
    assert not cascade_page.has_inner_minimum({1: 1.0, 75: 2.0, 150: 3.0})
    assert not cascade_page.has_inner_minimum({1: 3.0, 75: 2.0, 150: 1.0})
    assert cascade_page.has_inner_minimum({1: 3.0, 75: 2.0, 150: 2.5})
    assert not cascade_page.is_monotone({1: 1.0, 75: 3.0, 150: 2.0})


def test_rows_are_of_what_is_finished_with_the_training_counted_once(tmp_path: Path):
    run = run_of(tmp_path, "cascade/1/faces")
    for where, fd in (("last", 3.0), ("truncated", 4.0), ("generated_150", 5.0)):
        folder = run.folder / where / "evaluations"
        folder.mkdir(parents=True)
        content = {"values": {"fd_efficientnet_lite0": fd}, "step": 0, "samples": 200}
        (folder / "test.json").write_text(json.dumps(content))
    (run.folder / "seconds.csv").write_text("train_32,60.0\ntrain_64,60.0\nlast,60.0\ntruncated,30.0\n")
    rows = results.gathered(tmp_path, [run])
    found = [(one["method"], one["group"], one["fd"], one["minutes"]) for one in rows]
    assert found == [
        ("cascade", "methods", "3", "3.0"), ("cascade, truncated", "methods", "4", "0.5"),
        ("generated, s = 150", "curve", "5", "0.0"),
    ]  # fmt: skip


def test_the_page_has_a_place_for_all(tmp_path: Path):
    places = page.BLOCK.findall((TOP / "docs" / page.PAGE).read_text())
    found = {(kind, target) for kind, name, target, _ in places if name == NAME}
    kinds = {"cascade_table", "cascade_picture"}
    assert {(kind, target) for kind in kinds for target in ("faces", "sunglasses")} <= found
    assert {(kind, "") for kind in page.MAKERS.keys() - kinds if kind.startswith("cascade")} <= found


def test_the_command_prints_what_is_left_of_this_set_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TENSHOT_EVIDENCE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["evidence", "--set", NAME, "--dry"])
    assert command.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + sum(len(run.tasks()) for run in runs(tmp_path))
    assert all(shlex.split(line)[0] == "tenshot" for line in lines[:-1])
