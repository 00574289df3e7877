"""PITI on pairs in docs/evidence.md: what is planned, that each command finds what it needs, what the page says."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from PIL import Image

TOP = Path(__file__).parents[2]
sys.path.append(str(TOP))

from scripts.evidence import __main__ as command  # noqa: E402
from scripts.evidence import page, plan, results  # noqa: E402
from scripts.evidence.draw import COLUMNS  # noqa: E402
from scripts.evidence.pairs import (  # noqa: E402
    COUNTS,
    DOMAINS,
    FIRST,
    LARGE,
    METHODS,
    NAME,
    PAIRS,
    STEPS,
    UPSAMPLERS,
    W,
)
from scripts.evidence.pairs_draw import conditions, pair_grids  # noqa: E402
from scripts.evidence.pairs_runs import PairsRun, runs  # noqa: E402
from scripts.evidence.plan import TOY  # noqa: E402
from tenshot.datamodules import SyntheticFaces  # noqa: E402


def run_of(root: Path, title: str, scale: plan.Scale = plan.FULL) -> PairsRun:
    return next(run for run in runs(root, scale) if run.title == title)


def value_of(task: plan.Task, option: str) -> str:
    return task.argv[len(task.argv) - 1 - task.argv[::-1].index(option) + 1]


# The plan


def test_the_plan_is_whole_and_takes_less_than_three_hours_of_one_core(tmp_path: Path):
    planned = runs(tmp_path)
    found = {(run.target, run.name, run.seed) for run in planned}
    for target in ("mask", "sketch"):
        assert {(target, f"{name}, {count} pairs", 1) for name in METHODS for count in COUNTS} <= found
        assert {(target, f"{name}, 100 pairs", seed) for name in METHODS for seed in (1, 2, 3)} <= found
    assert {(LARGE, name, 1) for name in UPSAMPLERS} | {("mask", "attention alone, 100 pairs", 1)} <= found
    assert {(target, "true images", 1) for target in DOMAINS} <= found
    assert len({run.folder for run in planned}) == len(planned)
    assert plan.hours(planned) < 3


def test_all_methods_take_as_many_steps_and_recipes_have_the_sizes_that_are_asked_for(tmp_path: Path):
    for run in (run for run in runs(tmp_path) if run.method is not None):
        if run.target not in (FIRST, LARGE):
            assert sum(one.steps for one in run.trainings) == STEPS
        for training in run.trainings:
            recipe = yaml.safe_load((TOP / training.recipe).read_text())
            assert recipe["data"]["init_args"]["image_size"] == PAIRS.size(run.target)


def test_every_command_finds_the_files_that_it_names(tmp_path: Path):
    """Each is made by an earlier command of the run, or of one that it waits for."""
    planned = runs(tmp_path)
    made_by = {run.folder: {str(run.folder / task.done) for task in run.tasks()} for run in planned}
    named_files = 0
    for run in planned:
        there, before = set[str](), run
        while before.needs is not None:
            folder = before.needs.parents[2]
            waited_for = before.needs
            before = next(one for one in planned if one.folder == folder)
            assert str(waited_for) in made_by[folder] or waited_for.parent == before.images
            there |= made_by[folder]
        for task in run.tasks():
            named = set(re.findall(rf"{tmp_path}[^ ,}}]*\.ckpt", " ".join(task.argv)))
            assert named <= there, task.line
            named_files += len(named)
            there.add(str(run.folder / task.done))
    assert named_files > 100
    [last] = [run for run in planned if run.title == f"+ both/1/{LARGE}"]
    small = value_of(last.tasks()[1], "--images.low_res")
    assert str(last.needs) == f"{small}/000199.png"
    two_stage = run_of(tmp_path, "two-stage, 100 pairs/1/mask").tasks()[2]
    assert value_of(two_stage, "--evaluate.save") == small


def test_what_a_run_needs_is_chosen_with_it(tmp_path: Path):
    chosen = command.chosen(list(runs(tmp_path)), f"+ both/1/{LARGE}")
    assert [run.title for run in chosen] == [
        "segmenters/77/start", "prior/0/start", "two-stage, 100 pairs/1/mask", f"+ both/1/{LARGE}",
    ]  # fmt: skip
    chosen = command.chosen(list(runs(tmp_path)), "one-stage, 50 pairs/1/sketch")
    assert [run.name for run in chosen] == ["segmenters", "prior", "one-stage, 50 pairs"]
    chosen = command.chosen(list(runs(tmp_path)), "from scratch, 50 pairs/1/mask")
    assert [run.name for run in chosen] == ["segmenters", "from scratch, 50 pairs"]


def test_heads_of_prior_segmenters_and_pairs_are_others_and_nothing_is_trained_on_what_is_drawn_from(tmp_path: Path):
    for run in (run for run in runs(tmp_path) if run.method is not None):
        fits = [task for task in run.tasks() if task.argv[0] == "fit"]
        seeds = {value_of(task, "--data.seed") for task in fits}
        assert seeds == {str({"segmenters": 77}.get(run.name, 0 if run.target == FIRST else run.seed))}
        assert {value_of(task, "--data.num_val") for task in fits} == {"0"}  # those after the 10,000 are for the tests
        for task in (task for task in run.tasks() if "--evaluate.per_condition" in task.argv):
            assert value_of(task, "--data.num_val") == "40"
            assert value_of(task, "--data.seed") == str(run.seed)


def test_a_scale_is_w_and_one_and_only_two_stage_on_masks_is_guided(tmp_path: Path):
    guided = [run for run in runs(tmp_path) if len(run.measured) > 1]
    assert [run.title for run in guided] == ["two-stage, 100 pairs/1/mask"]
    tasks = {task.name: task for task in guided[0].tasks()}
    for w in W:
        for how, normalize in (("plain", None), ("normalized", "image")):
            asked = yaml.safe_load(value_of(tasks[f"{how}_{w:g}"], "--model.classifier_free"))
            assert asked == {"scale": 1 + w, "normalize": normalize}
    assert value_of(tasks["last"], "--model.classifier_free") == "null"


@pytest.mark.parametrize(
    ("title", "name"),
    [("two-stage, 100 pairs/1/sketch", "train_1"), ("one-stage, 100 pairs/1/sketch", "train"),
     ("attention alone, 100 pairs/1/mask", "train_1"), ("from scratch, 100 pairs/1/sketch", "train"),
     (f"+ perceptual/1/{LARGE}", "train")],
)  # fmt: skip
def test_tenshot_takes_the_options(
    tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str, name: str
):
    monkeypatch.chdir(TOP)
    run = run_of(tmp_path, title, TOY)
    task = next(task for task in run.tasks() if task.name == name)
    outcome = tenshot(*task.argv, "--print_config")
    assert outcome.status == 0, outcome.err
    asked = yaml.safe_load(outcome.out)
    method, data = asked["model"]["init_args"], asked["data"]["init_args"]
    assert (data["domain"], data["pairs"], data["seed"]) == ("faces", "sketch" if "sketch" in title else "mask", 1)
    if name == "train_1":
        assert (method["stage"], data["shots"], asked["trainer"]["max_steps"]) == (1, 100, 4)
        alone = "attention" in title
        assert method["piti"]["condition_input"] != alone
        assert method["piti"]["condition_channels"] == (3 if alone else 1)
    if title.startswith("one-stage"):
        assert (method["stage"], method["condition_drop"], method["piti"]["condition_channels"]) == (2, 0.2, 1)
    if "from scratch" in title:
        assert method["piti"]["condition_input"]
        assert (method["init_from"], method["stage"], method["condition_drop"]) == (None, 2, 0.2)
        assert method["piti"]["condition_channels"] == 1
    if LARGE in title:
        assert (method["adversary"]["weight"], data["image_size"]) == (0, 64)
        assert method["perceptual"] == {"weight": 0.004, "network": "efficientnet_lite0", "vgg19_weights": None}


# Rows, pictures and page


def row(target: str, method: str, seed: int, fd: float, **more: float) -> results.Row:
    group = "guidance" if ", w = " in method else "methods"
    about = {"set": NAME, "target": target, "method": method, "seed": str(seed), "group": group, "minutes": "60"}
    return about | {"fd": str(fd), "step": "150"} | {key: str(number) for key, number in more.items()}


def block(kind: str, rows: list[results.Row], target: str = "") -> str:
    about = " ".join(filter(None, (kind, NAME, target)))
    return page.filled(f"<!-- evidence: {about} -->\n<!-- end -->", rows)


def rows() -> list[results.Row]:
    """Of masks with two seeds, in the first of which the paper's order holds; of sketches and upsampler with one."""
    two, one, scratch = (f"{name}, 100 pairs" for name in METHODS)
    found = [row("mask", two, 1, 1.0, miou=0.6, diversity_dist=1.0), row("mask", two, 2, 2.0, miou=0.7)]
    found += [row("mask", one, 1, 2.0, miou=0.5, diversity_dist=2.0), row("mask", one, 2, 1.0, miou=0.6)]
    found += [row("mask", scratch, 1, 3.0, miou=0.9), row("mask", scratch, 2, 3.0, miou=0.1)]
    found += [row("mask", "attention alone, 100 pairs", 1, 4.0, miou=0.1)]
    found += [row("sketch", two, 1, 1.0, edge_f1=0.5), row("sketch", one, 1, 2.0, edge_f1=0.6)]
    found += [row("babies", two, 1, 1.0, miou=0.5), row("babies", scratch, 1, 2.0, miou=0.6)]
    found += [row(LARGE, name, 1, fd) for name, fd in zip(UPSAMPLERS, (9.0, 8.0, 5.0, 8.5), strict=True)]
    found += [row("mask", f"plain, w = {w:g}", 1, w + 1, miou=0.5) for w in W]
    found += [row("mask", f"normalized, w = {w:g}", 1, 2.5, miou=0.5) for w in W]
    return found


def test_the_order_counts_seeds_and_says_whether_the_papers_holds():
    made = " ".join(block("pairs_order", rows()).split())
    assert "| masks to faces, 100 pairs: two-stage than one-stage | 1 of 2 | 2 of 2 | 0 of 1 |" in made
    assert "| masks to faces, 100 pairs: one-stage than from scratch | 2 of 2 | 1 of 2 | |" in made
    assert "| sketches to faces, 100 pairs: two-stage than one-stage | 1 of 1 | 0 of 1 | |" in made  # by edges
    assert "| masks to babies, 100 pairs: two-stage than from scratch | 1 of 1 | 0 of 1 | |" in made
    assert "| masks to faces, 100 pairs: two-stage than attention alone | 1 of 1 | 1 of 1 | |" in made
    assert "babies, 100 pairs: two-stage than one-stage" not in made
    assert "is that of FD in 1 of 2 comparisons" in made
    assert "does not hold by FD (8.5, 8.0, 9.0)" in made
    assert "has the smaller FD at 2 of 3 values of w" in made  # of 1, 2 and 4: 2.0, 3.0, 5.0 against 2.5
    held = [one | {"fd": "7"} if one["method"] == "+ both" else one for one in rows()]
    assert "holds by FD (7.0, 8.0, 9.0)" in " ".join(block("pairs_order", held).split())


def test_the_tables_have_what_was_measured_and_no_step_of_a_last_stage():
    made = block("pairs_table", rows(), "mask")
    assert "| masks to faces | n | fd | miou | diversity_dist |" in made
    assert "| two-stage, 100 pairs | 2 | 1.5 ± 0.7 | 0.650 ± 0.071 | 1.00 |" in made
    assert ", w = " not in made
    guided = block("pairs_guidance", rows())
    assert "w | FD, plain | FD, normalized | mIoU, plain |" in guided
    assert "| 0 | 1.0 | 1.0 | 0.600 | 0.600 | 1.00 | 1.00 |" in guided  # of the guided seed alone
    assert "| 0.5 | 1.5 | 2.5 | 0.500 | 0.500 |  |  |" in guided
    assert block("pairs_guidance", [one for one in rows() if one["group"] == "methods"]).count("|") == 0


def test_what_is_left_out_is_said():
    made = " ".join(block("pairs_omitted", rows()).split())
    assert "One-stage on other domains: not run." in made
    assert "Not run yet: masks to faces, two-stage, 50 pairs, seed 1." in made
    assert "Not run yet: masks to faces, two-stage, 100 pairs, seed 3." in made  # seeds 1 and 2 are there
    assert "Not run yet: sketches to faces, from scratch, 100 pairs, seed 1, 2, 3." in made
    assert "two-stage, 1000 pairs, seed 2" not in made  # not planned
    assert all(name not in made for name in ("w = 0.5", "+ both"))


def test_the_protocol_counts_the_hours_and_the_page_has_a_place_for_all():
    made = " ".join(block("pairs_protocol", rows()).split())
    assert f"{len(rows()):.1f} hours of one core" in made
    assert "200 samples, 5 of each of 40 conditions" in made
    places = page.BLOCK.findall((TOP / "docs" / page.PAGE).read_text())
    found = {(kind, target) for kind, name, target, _ in places if name == NAME}
    kinds = {"pairs_table", "pairs_picture"}
    assert {(kind, target) for kind in kinds for target in DOMAINS} <= found
    assert {(kind, "") for kind in page.MAKERS.keys() - kinds if kind.startswith("pairs")} <= found


def test_pictures_show_what_each_sample_was_drawn_from(tmp_path: Path):
    run = run_of(tmp_path, "two-stage, 100 pairs/1/mask", TOY)
    shown = conditions(run)["true image"]
    true = SyntheticFaces(seed=1, image_size=32, num_val=0).reference(5, start=10000).read(range(5))["image"]
    assert shown.shape == (COLUMNS, 3, 64, 64)
    for number in range(COLUMNS):  # 24 samples, five of each condition in turn
        assert torch.equal(shown[number, :, ::2, 1::2], true[number % 5])
    for where in run.measured.values():
        (run.folder / where / "images").mkdir(parents=True)
        for number in range(COLUMNS):
            Image.new("RGB", (32, 32), (number, 0, 0)).save(run.folder / where / "images" / f"{number:06d}.png")
    pair_grids([run], tmp_path)
    heights = {path.name: Image.open(path).height for path in tmp_path.glob("*.png")}
    assert heights == {
        "evidence_pairs_mask.png": 3 * 65 + 1,  # condition, truth, method
        "evidence_pairs_guidance.png": (3 + 2 * len(W)) * 65 + 1,
    }


def test_the_command_prints_what_is_left_of_this_set_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TENSHOT_EVIDENCE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["evidence", "--set", NAME, "--dry"])
    assert command.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + sum(len(run.tasks()) for run in runs(tmp_path))
    assert all(shlex.split(line)[0] == "tenshot" for line in lines[:-1])
