"""``tenshot search``: each way of drawing measured as ``tenshot test`` would, and never twice."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import yaml
from jsonargparse import Namespace

from tenshot.callbacks import EvaluateGenerator
from tenshot.callbacks.search import Search
from tenshot.callbacks.search_kept import SharedStages
from tenshot.cli import _user_error
from tenshot.cli.search import together, ways_of_drawing
from tenshot.datamodules.synthetic_faces import FacesSource
from tenshot.lightning_modules import (
    Cascade,
    CascadeStage,
    ClassifierFreeGuidance,
    FolderGenerator,
    NoisyClassifier,
)

QUICK = [
    "--evaluate.features", "random", "--evaluate.reference", "8", "--evaluate.samples", "5", "--evaluate.metrics",
    "[frechet]",
]  # fmt: skip
STEPS, BY = "--search.over.model.sampler.steps", ["--search.by", "fd_random"]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of the real images that are read."""
    numbers: list[int] = []
    plain = FacesSource.read

    def noted(self: FacesSource, indices: Any) -> Any:
        numbers.extend(indices)
        return plain(self, indices)

    monkeypatch.setattr(FacesSource, "read", noted)
    return numbers


def records(run: Path) -> dict[str, dict[str, Any]]:
    """The measurements in a run's folder, by the names of their files."""
    return {path.name: json.loads(path.read_text()) for path in (run / "searches" / "measured").glob("*.json")}


def summary(run: Path, name: str = "sampler.steps") -> dict[str, Any]:
    return json.loads((run / "searches" / name / "search.json").read_text())


def test_every_way_is_measured_as_test_does_and_never_twice(
    tenshot: tiny.Run, run_copy: Path, read: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    words = ["search", "--ckpt_path", run_copy, *QUICK, *BY, STEPS]
    plain, done = EvaluateGenerator.measure, list[int]()

    def killed_at_the_third(self: EvaluateGenerator, *arguments: Any) -> dict[str, Any]:
        done.append(self.seed)
        if len(done) == 3:
            raise KeyboardInterrupt
        return plain(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(EvaluateGenerator, "measure", killed_at_the_third)
        assert tenshot(*words, "[2, ddim3]", "--search.seeds", "2").status != 0
    kept = records(run_copy)
    assert len(kept) == 2
    assert not (run_copy / "searches" / "sampler.steps").exists()
    assert sorted(read) == list(range(8))  # for both ways: once

    outcome = tenshot(*words, "[2, ddim3]", "--search.seeds", "2")
    assert outcome.status == 0, outcome.err
    assert "2 ways of drawing x 2 seeds, 2 of them measured before" in outcome.log
    found = summary(run_copy)
    assert [row["options"] for row in found["rows"]] == [{"model.sampler.steps": 2}, {"model.sampler.steps": "ddim3"}]
    assert len(records(run_copy)) == 4
    assert records(run_copy).items() >= kept.items()

    tested = tenshot("test", "--ckpt_path", run_copy, *QUICK, "--model.sampler.steps", "ddim3", "--evaluate.seed", "1")
    assert tested.status == 0, tested.err
    [path] = (run_copy / "evaluations").iterdir()
    expected = json.loads(path.read_text())
    assert found["rows"][1]["values"]["1"] == expected["values"]
    same = records(run_copy)[f"{found['rows'][1]['records']['1']}.json"]["result"]
    for key in expected.keys() - {"date"}:
        assert same[key] == expected[key], key

    table = list(csv.DictReader((run_copy / "searches/sampler.steps/search.csv").read_text().splitlines()))
    for row, line in zip(found["rows"], table, strict=True):
        values = [row["values"][seed]["fd_random"] for seed in ("0", "1")]
        assert float(line["fd_random"]) == pytest.approx(sum(values) / 2, rel=1e-12)
    [best] = [line["model.sampler.steps"] for line in table if line["best"]]
    assert best == min(table, key=lambda line: float(line["fd_random"]))["model.sampler.steps"]
    lines = yaml.safe_load((run_copy / "searches/sampler.steps/search.yaml").read_text())
    assert str(lines["model"]["init_args"]["sampler"]["steps"]) == best
    assert f"best fd_random (less is better): sampler.steps {best}" in outcome.out

    longer = tenshot(*words, "[ddim3, 3]", "--evaluate.save", tmp_path / "saved")
    assert "2 ways of drawing x 1 seeds, 1 of them measured before" in longer.log
    assert {row["options"]["model.sampler.steps"] for row in summary(run_copy)["rows"]} == {2, "ddim3", 3}
    saved = {path.name: len(list(path.glob("*.png"))) for path in (tmp_path / "saved").iterdir()}
    assert saved == {"sampler.steps=3,seed=0": 5}

    before = {path: path.read_bytes() for path in (run_copy / "searches").rglob("*") if path.is_file()}
    older = run_copy / "checkpoints" / "step=00000002.ckpt"
    outcome = tenshot("search", "--ckpt_path", older, *QUICK[:-2], *BY, STEPS, "[2]")
    assert outcome.status == 0, outcome.err
    assert "1 ways of drawing x 1 seeds, 0 of them measured before" in outcome.log
    assert f"{run_copy / 'searches' / 'sampler.steps'} holds a search of other weights_sha256" in outcome.log
    [row] = summary(run_copy, "sampler.steps-2")["rows"]
    assert row["values"]["0"].keys() == {"fd_random"}  # no more than what is asked for
    assert {path: path.read_bytes() for path in before} == before


def test_nothing_is_drawn_before_every_value_is_tried(
    tenshot: tiny.Run, run_copy: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(EvaluateGenerator, "measure", lambda *arguments: pytest.fail("drawn"))
    outcome = tenshot("search", "--ckpt_path", run_copy, *QUICK, *BY, STEPS, "[2, 5000]")
    tiny.assert_one_line(outcome, 1, "asks 5000 steps of a section that has 1000")
    assert not (run_copy / "searches").exists()


def test_a_value_that_is_not_computed_is_no_value_to_choose_by():
    search, shown = Search({}, "fid"), SimpleNamespace(better={"fd_random": False, "nearness": None})
    evaluation: Any = SimpleNamespace(setup=lambda *_: None, shown=shown, used=SimpleNamespace(features="random"))
    search.evaluation = evaluation
    nothing: Any = None
    tiny.refusal(lambda: search.setup(nothing, nothing, "test"), "--search.by 'fid' is not computed", "fd_random")


MODEL = Namespace(class_path="tenshot.lightning_modules.DDPM", init_args=tiny.COMMAND_LINE["model"]["init_args"])


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"model.unet.channels": [32, 64]}, "model.unet.channels is no option of how DDPM draws: choose of model.sam"),
        ({"model.sampler.step": [2]}, "unknown option 'step'.*did you mean --model.sampler.steps"),
        ({"model.sampler.steps": [2, [3]]}, r"sampler.steps: '\[3\]' does not fit"),
        ({"model.sampler.eta": [0, -1]}, "sampler.eta is -1.0: choose at least 0"),
        ({"model.sampler.method": ["ddim", "ddin"]}, "'ddin' is unknown.*did you mean 'ddim'"),
        ({"model.sampler.steps": 3}, "model.sampler.steps 3: give a list of values"),
        ({"model.sampler.steps": []}, r"steps \[\]: give a list of values"),
        ({"model.sampler.steps": [3, 3]}, "a value is given twice"),
        ({"model.guidance.scale": [1, 2]}, "--model.guidance.classifier|classifier must be given"),
        ({"model.classifier_free.scale": [1, 0.5]}, "classifier_free.scale is 0.5: choose at least 1"),
        ({}, "--search.over names no option"),
    ],
)
def test_what_cannot_be_searched_over_is_said_in_one_line(
    over: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises((ValueError, SystemExit)) as end:
        ways_of_drawing(MODEL, tiny.ddpm(), over)
    said = capfd.readouterr().err if isinstance(end.value, SystemExit) else f"tenshot: error: {_user_error(end.value)}"
    tiny.assert_one_line(tiny.Outcome(1, "", said, ""), 1, message)


def test_methods_without_options_of_drawing_are_refused(shots: Path):
    for method in (FolderGenerator(str(shots)), NoisyClassifier(tiny.unet_config(out_channels=3))):
        tiny.refusal(lambda m=method: ways_of_drawing(MODEL, m, {"model.x": [1]}), type(method).__name__, "no options")  # type: ignore[misc]


def test_all_combinations_keep_what_is_configured():
    over = {"model": {"sampler.steps": [2, "ddim3"]}, "model.sampler.eta": [0, 0.5, 1]}
    ways = ways_of_drawing(MODEL, tiny.ddpm(), over)
    drawn = [(way.method.sampler.method, way.method.sampler.steps, way.method.sampler.eta) for way in ways]  # type: ignore[attr-defined]
    assert drawn == [("ddim", steps, eta) for steps in (2, "ddim3") for eta in (0, 0.5, 1)]
    assert ways[4].options == {"model.sampler.steps": "ddim3", "model.sampler.eta": 0.5}
    assert ways[4].drawing["model.sampler.clip_denoised"] is True
    assert len({json.dumps(way.drawing) for way in ways}) == 6


def test_guidance_without_a_classifier_is_searched_over_and_recorded_only_where_it_is_given():
    over = {"model.classifier_free.scale": [1, 3], "model.classifier_free.interval": [None, [10, 500]]}
    ways = ways_of_drawing(MODEL, tiny.ddpm(), over)
    drawn = [way.method.classifier_free for way in ways]  # type: ignore[attr-defined]
    assert drawn == [ClassifierFreeGuidance(s, interval=i) for s in (1, 3) for i in (None, (10, 500))]
    assert ways[3].drawing["model.classifier_free.scale"] == 3
    [plain] = ways_of_drawing(MODEL, tiny.ddpm(), {"model.sampler.eta": [0]})
    assert not any("classifier_free" in name for name in plain.drawing)  # so that searches of older versions go on


AT = CascadeStage("a")
STAGES = [{"checkpoint": "a", "augmentation_s": 3}, {"checkpoint": "b"}]


def cascade_of_two() -> tuple[Namespace, Cascade]:
    settings = {"base": "c", "stages": STAGES}
    return Namespace(class_path="tenshot.lightning_modules.Cascade", init_args=settings), Cascade("c", [AT, AT])


def test_an_option_of_a_stage_is_changed_in_the_list_of_stages():
    over = {"model": {"stages[1].sampler.steps": [2, 4]}, "model.stages.0.truncated": [True]}
    ways = ways_of_drawing(*cascade_of_two(), over)
    for steps, way in zip((2, 4), ways, strict=True):
        first, second = way.method.stages  # type: ignore[attr-defined]
        assert (first.checkpoint, first.augmentation_s, first.truncated, first.sampler) == ("a", 3, True, None)
        assert (second.checkpoint, second.truncated, second.sampler.steps) == ("b", False, steps)
        assert way.options == {"model.stages.1.sampler.steps": steps, "model.stages.0.truncated": True}
        assert way.drawing["model.stages.1.sampler.steps"] == steps
        assert list(way.lists) == ["model.stages"]
        assert [stage["checkpoint"] for stage in way.lists["model.stages"]] == ["a", "b"]
    assert STAGES[1] == {"checkpoint": "b"}


@pytest.mark.parametrize("option", ["stages.2.augmentation_s", "stages.0.checkpoint", "stages.augmentation_s", "base"])
def test_what_is_no_option_of_a_stage_is_said_with_those_that_there_are(option: str):
    message = tiny.refusal(
        lambda: ways_of_drawing(*cascade_of_two(), {f"model.{option}": [1]}), f"model.{option} is no"
    )
    assert message.endswith(".sampler, .guidance.scale, .classifier_free, with N from 0 to 1")
    assert "model.stages.N.augmentation_s, .truncated, " in message
    assert len(message) < 400


def measured(steps: int, s: int, left: int = 0) -> dict[str, Any]:
    """All that a set of samples of a cascade of two stages depends on."""
    stages = {"stages[0].drawn_s": s, "stages[0].noise_left": left, "stages[1].drawn_s": 5}
    parts = {"base.weights_sha256": "b", "base.sampler": steps, "base.noise_left": 0, **stages}
    return {"drawn_by": {"method": "Cascade", "seed": 0, "precision": "32", **parts}, "samples": 2}


def test_of_a_cascade_is_kept_what_several_ways_begin_with(tmp_path: Path):
    alone: Any = SimpleNamespace(is_global_zero=True, strategy=SimpleNamespace(broadcast=lambda value: value))

    def kept(*ways: dict[str, Any]) -> list[list[int]]:
        shared = SharedStages(tmp_path / f"{len(list(tmp_path.iterdir()))}" / "searches", ways)
        return [list(shared.of(alone, way).folders) for way in ways]

    last = [measured(2, 3) | {"drawn_by": measured(2, 3)["drawn_by"] | {"stages[1].drawn_s": s}} for s in (1, 2)]
    assert kept(*last) == [[1], [1]]  # the base need not be
    assert kept(measured(2, 3), measured(2, 4)) == [[0], [0]]
    assert kept(measured(2, 3), measured(3, 3)) == [[], []]
    assert kept(measured(2, 3, left=0), measured(2, 3, left=1)) == [[0], [0]]
    assert kept(*last, measured(2, 4)) == [[0, 1], [0, 1], [0]]
    plain = {"drawn_by": {"method": "DDPM", "seed": 0}, "samples": 2}
    assert kept(plain, plain) == [[], []]

    two = SharedStages(tmp_path / "searches", [measured(2, 3), measured(2, 4)])
    [folder] = two.of(alone, measured(2, 3)).folders.values()
    one = SharedStages(tmp_path / "searches", [measured(2, 5)])  # later, of one value more
    assert one.of(alone, measured(2, 5)).folders[0].path == folder.path


def test_options_may_be_given_one_by_one():
    words = ["search", STEPS, "[2, ddim3]", "--search.by", "fid", "--search.over.model.truncation=[0.5, 1]"]
    *others, option, value = together(words)
    assert others == ["search", "--search.by", "fid"]
    assert option == "--search.over"
    assert json.loads(value) == {"model.sampler.steps": [2, "ddim3"], "model.truncation": [0.5, 1]}
    tiny.refusal(lambda: together(["search", STEPS, "[2"]), STEPS, "not a list")
