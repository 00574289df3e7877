"""W&B without an account: what an offline run leaves, read back from its file with W&B's own messages."""

import json
import logging
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from tenshot.cli import main
from tenshot.run import RunWandb

pytestmark = pytest.mark.slow

FRAGMENT = Path(__file__).parents[2] / "configs" / "logger" / "wandb.yaml"
BLOCK = 32768


def records(path: Path) -> Iterator[Record]:
    """The messages in a .wandb file: a LevelDB log after seven bytes that say it is W&B's."""
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    at, begun = 7, b""
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:  # padding
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        begun += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(begun)
            yield record
            begun = b""


def items(updates: Any) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for item in updates:
        name, *within = item.nested_key or [item.key]
        value = json.loads(item.value_json)
        if within:
            content.setdefault(name, {})["/".join(within)] = value
        else:
            content[name] = value
    return content


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps, and two more after a resume."""
    folder = tmp_path_factory.mktemp("wandb")
    changes = {
        "data": {"init_args": {"shots": 5, "domain": "babies"}},
        "trainer": {"max_steps": 4, "log_every_n_steps": 1, "default_root_dir": str(folder / "babies" / "tiny")},
        "checkpoint": {"every_n_steps": 2},
        "grid": {"every_n_steps": 2, "count": 2, "columns": 2},
        "evaluate": {
            "metrics": ["kernel"], "features": "random", "every_n_steps": 2, "fit_samples": 4, "reference": 4,
            "batch_size": 4,
        },
    }  # fmt: skip
    words = ["fit", "--config", tiny.config_file(folder, changes), "--config", str(FRAGMENT)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.delenv("WANDB_PROJECT", raising=False)
        main(words)
        main([*words, "--ckpt_path", "last", "--trainer.max_steps", "6"])
    wandb.teardown()  # its service writes the files
    return folder / "babies" / "tiny"


@pytest.fixture(scope="module")
def parts(run: Path) -> list[list[Record]]:
    """The records of the first attempt and of the second, in this order."""
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) == 2
    return [list(records(path)) for path in files]


def history(part: list[Record]) -> list[dict[str, Any]]:
    return [items(record.history.item) for record in part if record.WhichOneof("record_type") == "history"]


def test_the_run_is_named_after_what_it_is(parts: list[list[Record]], run: Path):
    [described] = [record.run for record in parts[0] if record.WhichOneof("record_type") == "run"]
    assert (described.project, described.run_group, described.job_type) == ("tenshot", "babies", "DDPM")
    assert sorted(described.tags) == ["16px", "5-shot", "DDPM"]
    assert described.display_name == "babies/tiny"


def test_a_resumed_run_goes_on_in_the_same_one_without_gap_or_doubled_step(parts: list[list[Record]], run: Path):
    ids = {record.run.run_id for part in parts for record in part if record.WhichOneof("record_type") == "run"}
    assert ids == {(run / "wandb_id.txt").read_text().strip()}
    steps = [[row["trainer/global_step"] for row in history(part) if "train/loss" in row] for part in parts]
    assert steps == [[0, 1, 2, 3], [4, 5]]


def test_it_holds_configuration_and_code_version(parts: list[list[Record]]):
    config: dict[str, Any] = {}
    for record in parts[0]:
        if record.WhichOneof("record_type") == "config":
            config |= items(record.config.update)
        elif record.WhichOneof("record_type") == "run":
            config |= items(record.run.config.update)
    assert config["model"]["class_path"] == "tenshot.DDPM"
    assert config["seed_everything"] == 0
    assert config["code_version"]


def test_it_holds_grids_and_tables(parts: list[list[Record]], run: Path):
    rows = history(parts[0]) + history(parts[1])
    grids = [(row["trainer/global_step"], row["samples"]) for row in rows if "samples" in row]
    assert [step for step, _ in grids] == [2, 4, 6]
    files = list(run.glob("wandb/offline-run-*/files"))
    for _, grid in grids:
        assert any((folder / grid["filenames"][0]).is_file() for folder in files)
    tables = [row["eval/table"] for row in rows if "eval/table" in row]
    assert len(tables) == 3
    [table] = [folder / tables[0]["path"] for folder in files if (folder / tables[0]["path"]).is_file()]
    content = json.loads(table.read_text())
    assert content["columns"] == ["title", "step", "metric", "value"]
    values = {name: value for _, _, name, value in content["data"]}
    first = next(row for row in rows if any(name.startswith("eval/kd") for name in row))
    for name, value in values.items():
        assert first[f"eval/{name}"] == value


def test_summaries_keep_the_best(parts: list[list[Record]]):
    metrics = {record.metric.name: record.metric for record in parts[0] if record.WhichOneof("record_type") == "metric"}
    assert metrics["val/loss"].summary.min
    assert metrics["speed/images_per_second"].summary.mean
    assert metrics["speed/gpu_hours"].summary.max
    distances = [metric for name, metric in metrics.items() if name.startswith("eval/kd")]
    assert any(metric.summary.min for metric in distances)
    assert all(metric.step_metric == "trainer/global_step" for metric in distances)


def test_a_server_that_cannot_be_reached_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    started = []
    real = wandb.init

    def init(**arguments: Any) -> Any:
        started.append(arguments.get("mode"))
        if arguments.get("mode") != "offline":
            raise wandb.errors.CommError("no route to host\nsecond line")
        return real(**arguments)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    caplog.set_level(logging.INFO)
    logger = RunWandb()
    logger.describe(tmp_path / "a" / "b", {"model": {"class_path": "x.DDPM"}, "data": None})
    logger.log_metrics({"train/loss": 0.5}, 7)
    logger.finalize("success")
    wandb.teardown()
    os.environ.pop("WANDB_MODE", None)  # Lightning sets it

    assert started == [None, "offline"]
    [said] = [record.getMessage() for record in caplog.records if "W&B cannot be reached" in record.getMessage()]
    assert "no route to host" in said
    assert "\n" not in said
    [file] = (tmp_path / "a" / "b").glob("wandb/offline-run-*/*.wandb")
    assert [(row["trainer/global_step"], row["train/loss"]) for row in history(list(records(file)))] == [(7, 0.5)]


def test_going_back_says_that_both_lines_are_kept_or_begins_a_run_of_its_own(
    tenshot: tiny.Run, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("wandb"))
    before = (copy / "wandb_id.txt").read_text()
    words = ["fit", "--evaluate.every_n_steps", "0", "--grid.every_n_steps", "0"]
    said = f"delete {copy / 'wandb_id.txt'} before going on, and a new W&B run begins"
    newest = max((copy / "checkpoints").glob("step=*.ckpt"))
    outcome = tenshot(*words, "--ckpt_path", newest, "--trainer.max_steps", "7")
    assert outcome.status == 0, outcome.err
    assert said not in outcome.log
    outcome = tenshot(*words, "--ckpt_path", newest, "--trainer.max_steps", "7")
    assert outcome.status == 0, outcome.err
    assert said in outcome.log
    assert (copy / "wandb_id.txt").read_text() == before
    (copy / "wandb_id.txt").unlink()
    assert tenshot(*words, "--ckpt_path", newest, "--trainer.max_steps", "7").status == 0
    assert (copy / "wandb_id.txt").read_text() != before
    wandb.teardown()
