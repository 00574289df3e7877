"""scripts/stopping.py: which step a rule chooses, and the page that is made of results."""

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tiny

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"


@pytest.fixture
def stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("stopping", TOP / "scripts" / "stopping.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "stopping", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path / "runs")
    return module


@pytest.mark.parametrize(
    ("nearness", "least", "crossing"),
    [
        ([0.1, 0.4, 0.55, 0.9], 2, 2),
        ([0.1, 0.46, 0.6, 0.9], 1, 1),
        ([0.1, 0.3, 0.68, 0.51, 0.9], 3, 2),  # it comes back, by chance
        ([0.1, 0.48, 0.2, 0.9], 1, 2),  # it turns round before
        ([0.1, 0.2, 0.3], 2, 2),
        ([0.3, 0.2, 0.1], 0, 2),
        ([0.6, 0.51, 0.7], 1, 0),
        ([0.4], 0, 0),
        ([0.0, 0.0, 0.0], 2, 2),  # nothing has arrived yet
    ],
)
def test_the_step_that_a_rule_chooses(stopping: ModuleType, nearness: list[float], least: int, crossing: int):
    assert stopping.least_gap(nearness) == least
    assert stopping.first_crossing(nearness) == crossing


def result(stopping: ModuleType, step: int, fd: float, nearness: float, copies: float = 0.0) -> dict:
    values = dict.fromkeys(stopping.SHOWN, 1.0) | {
        stopping.FD: fd,
        stopping.NEARNESS: nearness,
        stopping.COPIES: copies,
    }
    return {"step": step, "values": values}


def finished(stopping: ModuleType, seed: int, results: list[dict]) -> None:
    run = stopping.Run("TGAN", "babies", seed)
    (run.folder / "evaluations").mkdir(parents=True)
    (run.folder / "finished").touch()
    for one in results:
        (run.folder / "evaluations" / f"step={one['step']:08d}.json").write_text(json.dumps(one))


def test_the_tables_are_of_finished_runs_and_of_those_that_were_there(
    stopping: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stopping, "draw", lambda rows, path: None)
    page = "a\n<!-- table sunglasses -->\n<!-- end -->\nb\n<!-- table babies -->\nold\n<!-- end -->\nc\n"
    (tmp_path / "stopping.md").write_text(f"{page}<!-- plot -->\n<!-- end -->\n")
    evaluations = [(50, 40.0, 0.2, 0.0), (100, 20.0, 0.45, 0.0), (150, 25.0, 0.6, 0.07), (200, 50.0, 0.9, 0.2)]
    finished(stopping, 2, [result(stopping, *one) for one in evaluations])
    stopping.publish(tmp_path)
    written = (tmp_path / "stopping.md").read_text()
    assert "| TGAN | 2 | 100 | 100 | 100 | 200 | 150 | 20.0 | 20.0 | 20.0 | 50.0 |" in written
    assert (
        "Not run yet (method, seed): fine-tuned 1, DDPM-PA 1, TGAN 1, CDC 1, fine-tuned 2, DDPM-PA 2, CDC 2," in written
    )
    assert "old" not in written
    assert "(images/stopping.png)" in written

    monkeypatch.setattr(stopping, "ROOT", tmp_path / "elsewhere")
    finished(stopping, 1, [result(stopping, 50, 30.0, 0.3), result(stopping, 100, 10.0, 0.2)])
    unfinished = stopping.Run("TGAN", "babies", 3).folder
    (unfinished / "evaluations").mkdir(parents=True)
    (unfinished / "evaluations" / "step=00000050.json").write_text(json.dumps(result(stopping, 50, 1.0, 0.3)))
    stopping.publish(tmp_path)
    lines = (tmp_path / "stopping.md").read_text().splitlines()
    assert "| TGAN | 1 | 50 | 100 | 100 | 100 | – | 30.0 | 10.0 | 10.0 | 10.0 |" in lines
    assert "| TGAN | 2 | 100 | 100 | 100 | 200 | 150 | 20.0 | 20.0 | 20.0 | 50.0 |" in lines
    mean = next(line for line in lines if line.startswith("| TGAN, FD over"))
    assert mean.endswith("| 2 seeds | | | | | | 2.00 ± 1.41 | 1.00 ± 0.00 | 1.00 ± 0.00 | 1.75 ± 1.06 |")
    assert [line for line in lines if len(line) == 1] == ["a", "b", "c"]
    with open(tmp_path / "stopping_results.csv", newline="") as file:
        assert [(row["seed"], row["step"]) for row in csv.DictReader(file)] == [
            ("1", "50"), ("1", "100"), ("2", "50"), ("2", "100"), ("2", "150"), ("2", "200"),
        ]  # fmt: skip


def test_the_page_has_the_tables_of_the_results(stopping: ModuleType):
    page = (DOCS / "stopping.md").read_text()
    assert page == stopping.fill(page, stopping.read(DOCS / "stopping_results.csv"))


@pytest.mark.parametrize("method", ["fine-tuned", "DDPM-PA", "TGAN", "CDC"])
def test_a_run_is_a_command_of_tenshot(
    tenshot: tiny.Run, stopping: ModuleType, monkeypatch: pytest.MonkeyPatch, method: str
):
    monkeypatch.chdir(TOP)
    words = stopping.Run(method, "babies", 3).command()
    outcome = tenshot(*words, "--print_config")
    assert outcome.status == 0, outcome.err
    for told in ("domain: babies", "keep_best: nearness_gap_efficientnet_lite0", "seed_everything: 3"):
        assert told in outcome.out


def test_what_is_done_is_not_done_again(
    stopping: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    called: list[list[str]] = []
    monkeypatch.setattr("tenshot.cli.main", called.append)
    run = stopping.Run("CDC", "babies", 1)
    for folder in (stopping.ROOT / "source_stylegan2", run.folder):
        folder.mkdir(parents=True)
    stopping.adapt(run, dry=True)
    assert not called
    assert capsys.readouterr().out.count("$ tenshot fit") == 2
    stopping.adapt(run, dry=False)
    stopping.adapt(run, dry=False)
    assert [words[2] for words in called] == [
        "configs/stylegan2/faces32_source.yaml", "configs/cdc/faces32_sunglasses.yaml",
    ]  # fmt: skip
