import csv
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tenshot.run import RunLog


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "logs" / "version_0" / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def cells(folder: Path, column: str) -> list[tuple[str, str]]:
    return [(row["step"], row[column]) for row in rows(folder) if row[column]]


def log(folder: Path, *steps: int, value: float = 1.0) -> None:
    logger = RunLog(folder)
    for step in steps:
        logger.log_metrics({"train/loss": value + step}, step)


def test_each_row_is_on_the_disk_at_once(tmp_path: Path):
    logger = RunLog(tmp_path)
    logger.log_metrics({"train/loss": 0.5}, 9)
    assert rows(tmp_path) == [{"step": "9", "train/loss": "0.5"}]
    logger.log_metrics({"train/loss": 0.25}, 19)
    assert cells(tmp_path, "train/loss") == [("9", "0.5"), ("19", "0.25")]


def test_new_columns_keep_what_is_there(tmp_path: Path):
    logger = RunLog(tmp_path)
    logger.log_metrics({"train/loss": 1}, 0)
    logger.log_metrics({"val/loss": 2}, 0)
    logger.log_metrics({"train/loss": 3}, 1)
    assert rows(tmp_path) == [
        {"step": "0", "train/loss": "1.0", "val/loss": ""},
        {"step": "0", "train/loss": "", "val/loss": "2.0"},
        {"step": "1", "train/loss": "3.0", "val/loss": ""},
    ]


def test_a_resumed_run_replaces_what_a_killed_one_logged_after_its_checkpoint(tmp_path: Path):
    log(tmp_path, 9, 19, 29, 39)
    log(tmp_path, 29, 39, 49, value=100.0)  # resumed from step 20
    assert cells(tmp_path, "train/loss") == [
        ("9", "10.0"), ("19", "20.0"), ("29", "129.0"), ("39", "139.0"), ("49", "149.0"),
    ]  # fmt: skip


def test_an_evaluation_at_the_checkpoint_stays(tmp_path: Path):
    """It bears the number of steps done, as the row of the next step does."""
    first = RunLog(tmp_path)
    first.log_metrics({"train/loss": 1}, 1)
    first.log_metrics({"eval/kid": 5}, 2)
    first.log_metrics({"train/loss": 2}, 2)
    first.log_metrics({"eval/kid": 6}, 3)
    log(tmp_path, 2, 3)  # resumed from step 2
    assert cells(tmp_path, "eval/kid") == [("2", "5.0")]
    assert cells(tmp_path, "train/loss") == [("1", "1.0"), ("2", "3.0"), ("3", "4.0")]


def test_a_row_torn_by_a_kill_is_dropped(tmp_path: Path):
    log(tmp_path, 9, 19)
    path = tmp_path / "logs" / "version_0" / "metrics.csv"
    path.write_text(path.read_text() + "29,3")
    log(tmp_path, 39)
    assert [step for step, _ in cells(tmp_path, "train/loss")] == ["9", "19", "39"]


def test_a_full_disk_is_said_once_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    logger = RunLog(tmp_path)
    logger.log_metrics({"train/loss": 0}, 0)

    class TornWriter(csv.DictWriter):  # type: ignore[type-arg]
        def writerows(self, rows: Any) -> None:
            super().writerows([{"step": 77}])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    caplog.set_level("INFO")
    with monkeypatch.context() as full:
        full.setattr(csv, "DictWriter", TornWriter)
        logger.log_metrics({"train/loss": 1}, 1)
        logger.log_metrics({"train/loss": 2}, 2)
    assert caplog.text.count("No space left on device") == 1
    logger.log_metrics({"train/loss": 3}, 3)

    assert cells(tmp_path, "train/loss") == [(str(step), f"{step}.0") for step in range(4)]
    with monkeypatch.context() as full:
        full.setattr(csv, "DictWriter", TornWriter)
        logger.log_metrics({"train/loss": 4}, 4)
    assert caplog.text.count("No space left on device") == 2  # it started to fail anew
