"""The command for a GPU: its stages run on the CPU; what fails, dies, hangs or is dropped is a row, no more."""

import json
import os
import subprocess
import sys
import time
import warnings
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
TESTED_ELSEWHERE = {
    "methods.diffaugment", "methods.tgan", "methods.mixdl", "resume.ddpmpa", "resume.stylegan2", "distributed.ddp",
}  # fmt: skip
"""Parts whose commands tests of the package run too; only ``make gpu-dry`` runs them here."""
sys.path.append(str(ROOT))

from benchmarks.gpu import bare, control, probe, worker  # noqa: E402
from benchmarks.gpu.checkouts import CHECKOUTS  # noqa: E402
from benchmarks.gpu.compared import SameDraws, compare  # noqa: E402
from benchmarks.gpu.record import Context  # noqa: E402
from benchmarks.gpu.stages import STAGES, Stage, chosen  # noqa: E402
from benchmarks.gpu.timing import measure  # noqa: E402


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path / "rows.jsonl", tmp_path, torch.device("cpu"), True, time.time() + 100)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_stage_gives_rows_and_none_fails(tmp_path: Path):
    stages = [stage for stage in STAGES if stage.name not in TESTED_ELSEWHERE]
    words = [sys.executable, "-m", "benchmarks.gpu", "--dry", "--budget", "850", "--out", str(tmp_path)]
    words += ["--stages", ",".join(stage.name for stage in stages)]
    environment = {name: value for name, value in os.environ.items() if name not in CHECKOUTS}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    found = rows(tmp_path / "rows.jsonl")
    absent = {row["name"] for row in found if row["status"] == "dropped"}
    assert absent == {repository for repository, _ in CHECKOUTS.values()}
    assert [row for row in found if row["status"] == "failed"] == [], done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["stage"] for row in found if row["name"] == worker.END] == [stage.name for stage in stages]
    for module in {stage.module for stage in STAGES}:
        names = {row["name"] for row in found if row["stage"] == module}
        assert any(not name.startswith("whole ") for name in names), module


# Rows


def test_a_failing_check_is_a_row_and_the_next_one_runs(context: Context):
    with context.check("s", "first") as values:
        values["so far"] = float("nan")
        raise ValueError("broken")
    with context.check("s", "deep"):
        torch.zeros(2).reshape(3)
    assert context.run("s", "second", lambda: sys.exit(3)) is None
    assert context.run("s", "third", lambda: {"x": torch.tensor([1.5])}) is not None
    first, deep, second, third = rows(context.rows)
    assert any("torch.zeros(2).reshape(3)" in frame for frame in deep["at"])
    assert (first["status"], first["error"], first["message"], first["so far"]) == (
        "failed", "ValueError", "broken", "nan",
    )  # fmt: skip
    assert "test_gpu.py" in first["at"][-1]
    assert (second["status"], second["error"]) == ("failed", "SystemExit")
    assert (third["status"], third["x"]) == ("ok", [1.5])


def test_a_stage_that_cannot_be_imported_or_writes_nothing_has_failed(context: Context):
    worker.serve(context, Stage(1, "a", 1), ImportError("no such module"))
    worker.serve(context, Stage(1, "b.part", 1), SimpleNamespace(run=lambda context, part: None))
    worker.serve(context, Stage(1, "c", 1), SimpleNamespace(run=lambda context: context.row("c", "found")))
    found = {row["stage"]: row for row in rows(context.rows) if row["name"].startswith("whole")}
    assert (found["a"]["status"], found["a"]["error"]) == ("failed", "ImportError")
    assert (found["b"]["status"], found["b"]["message"]) == ("failed", "the stage wrote no row")
    assert found["c"]["status"] == "ok"
    assert [row["stage"] for row in rows(context.rows) if row["name"] == worker.END] == ["a", "b.part", "c"]


# Control


class Played:
    """A worker that does at once what it is told to: end its stage, die, or hang."""

    deeds: dict[str, str] = {}  # noqa: RUF012
    begun: list[str] = []  # noqa: RUF012

    def __init__(self, stages: list[Stage], out: Path, scratch: Path, device: str, dry: bool, deadline: float) -> None:
        self.rows, self.log, self.code = out / "rows.jsonl", scratch / f"{stages[0].name}.log", None
        self.log.write_text("last words\n")
        self.process = SimpleNamespace(poll=lambda: self.code, returncode=-9)

    def begin(self, stage: Stage) -> None:
        Played.begun.append(stage.name)
        match Played.deeds.get(stage.name):
            case "dies":
                self.code = -9
            case "hangs":
                pass
            case _:
                control.append(self.rows, {"stage": stage.name, "name": worker.END, "status": "ok"})

    def end(self) -> None:
        self.code = -9


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> control.Control:
    monkeypatch.setattr(control, "Worker", Played)
    monkeypatch.setattr(Played, "begun", [])
    return control.Control(tmp_path, tmp_path, "cuda", False, 30)


def test_the_budget_drops_stages_that_would_take_longer_than_is_left(played: control.Control):
    found = played.run([Stage(1, "short", 5), Stage(1, "long", 31), Stage(1, "other", 29)])
    assert Played.begun == ["short", "other"]
    [dropped] = [row for row in found if row["status"] == "dropped"]
    assert dropped["stage"] == "long"
    assert "takes about 31 s" in dropped["message"]


def test_what_dies_or_hangs_is_a_row_and_the_rest_runs(played: control.Control, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Played, "deeds", {"a": "dies", "b": "hangs"})
    played.deadline = time.time() + 2
    found = played.run([Stage(1, "a", 1), Stage(1, "b", 0, alone=False), Stage(1, "c", 0, alone=False)])
    assert Played.begun == ["a", "b", "c"]
    failed = {row["stage"]: row for row in found if row["status"] == "failed"}
    assert failed.keys() == {"a", "b"}
    assert (failed["a"]["message"], failed["a"]["at"]) == ("the process died: exit status -9", ["last words"])
    assert failed["b"]["message"] == "took too long: killed"
    assert any(row["stage"] == "c" and row["name"] == worker.END for row in found)


def test_what_measures_runs_alone():
    a, b, c, d = Stage(1, "a", 1), Stage(1, "b", 1, alone=False), Stage(1, "c", 1, alone=False), Stage(1, "d", 1)
    assert control.batches([a, b, c, d]) == [[a], [b, c], [d]]


def test_stages_are_chosen_by_call_or_by_name():
    assert {stage.call for stage in chosen("1", None)} == {1}
    assert [stage.name for stage in chosen("2", "machine,methods.cdc")] == ["machine", "methods.cdc"]
    assert len(chosen("1", "methods")) > 5
    with pytest.raises(ValueError, match="no stage 'machines'"):
        chosen("1", "machines")


# A bare machine


def wheel(folder: Path, name: str, files: dict[str, str]) -> None:
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        for path, content in files.items():
            info = zipfile.ZipInfo(path)
            info.external_attr = (0o755 if path.endswith("program") else 0o644) << 16
            archive.writestr(info, content)


def test_what_is_not_installed_comes_from_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "before")
    (tmp_path / bare.WHEELS).mkdir()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    wheel(tmp_path / bare.WHEELS, "unheard_of", {"unheard_of/__init__.py": "", "unheard_of/bin/program": "",
          "unheard_of-1.0.data/purelib/beside.py": "", "unheard_of-1.0.data/scripts/tool": ""})  # fmt: skip
    wheel(tmp_path / bare.WHEELS, "numpy", {"numpy/__init__.py": ""})
    packages = tmp_path / "packages"

    assert bare.prepare(tmp_path, packages) == ["unheard_of"]
    assert os.access(packages / "unheard_of" / "bin" / "program", os.X_OK)
    assert (packages / "beside.py").exists()
    assert not (packages / "numpy").exists()
    assert not (packages / "tool").exists()
    paths = os.environ["PYTHONPATH"].split(os.pathsep)
    assert paths == [str(tmp_path), str(tmp_path / "src"), "before", str(tmp_path / "tests"), str(packages)]
    assert sys.path[-1] == str(packages)


# What a step does


def test_waits_for_the_device_are_counted_in_later_steps_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    seen = probe.Probe(str(tmp_path / "seen.json"))
    module: Any = SimpleNamespace(device=torch.device("cuda"))
    trainer: Any = SimpleNamespace(global_step=16, precision_plugin=SimpleNamespace(scaler=None))
    filters = list(warnings.filters)
    for step in range(16):
        seen.on_train_batch_start(trainer, module, {}, step)
        if step >= probe.WATCHED.start - 1:
            with warnings.catch_warnings() if step not in probe.WATCHED else nullcontext():
                warnings.simplefilter("ignore" if step not in probe.WATCHED else "always")
                warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
                warnings.warn("something else", stacklevel=1)
        seen.on_train_batch_end(trainer, module, {"loss": torch.tensor(float(step))}, {}, step)
    seen.on_fit_end(trainer, module)
    content = json.loads((tmp_path / "seen.json").read_text())
    assert content["waits_per_step"] == 1
    assert content["waits_at"] == {f"{Path(__file__).name}:{line}": 3 for line in [lineno("called a synch")]}
    assert content["losses"] == [float(step) for step in range(16)]
    assert modes == ["warn", "default"]
    assert warnings.filters == filters


def lineno(text: str) -> int:
    """Of the first line of this file with this text."""
    return next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if f'"{text}' in line)


# Comparing


def test_a_result_that_differs_is_a_failed_row(context: Context):
    calls: list[int] = []

    def compute(made: Tensor) -> dict[str, Tensor]:
        calls.append(0)
        return {"x": made + torch.randn(3) + (1e-3 if len(calls) == 2 else 0)}

    compare(context, "off", lambda: torch.ones(3), compute, bf16=False)
    calls += [0, 0]
    compare(context, "same", lambda: torch.ones(3), compute, bf16=False)
    off, same = rows(context.rows)
    assert off["status"] == "failed"
    assert 1e-4 < off["float32"]["x"] < 1e-2
    assert same["status"] == "ok"
    assert same["float32"]["x"] == 0


def test_draws_are_those_of_the_cpu_wherever_they_are_wanted():
    """The meta device stands for another one: it has no numbers, but what a draw leaves the CPU's generator tells."""
    for drawn in (
        lambda device: torch.randn(3, device=device),
        lambda device: torch.empty(3, device=device).normal_(),
        lambda device: torch.randn_like(torch.empty(3, device=device)),
    ):
        torch.manual_seed(0)
        drawn("cpu")
        expected = torch.randn(2)
        torch.manual_seed(0)
        with SameDraws():
            assert drawn("meta").is_meta
        assert torch.equal(torch.randn(2), expected)


def test_a_time_is_the_median_of_steps():
    naps = iter([0.0, 0.0, 0.03, 0.01, 0.02, 0.02, 0.02])
    timing = measure(lambda: time.sleep(next(naps)), torch.device("cpu"), repeats=5, warmup=2)
    assert timing.ms >= 20
    assert timing.ms_10 <= timing.ms <= timing.ms_90
    assert timing.repeats == 5
