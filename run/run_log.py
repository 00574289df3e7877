"""The log of a run as one table, whatever it was stopped by and however often."""

import csv
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from tenshot.run.best_effort import best_effort

__all__ = ["IN_FIT", "SPEEDS", "RunLog", "rows_cut"]

IN_FIT = "eval"
"""What the names of an evaluation's values begin with that are logged during fit."""

SPEEDS = {
    "speed/images_per_second": "mean", "speed/steps_per_second": "mean", "speed/data_wait": "mean",
    "speed/model_tflops": "mean", "speed/mfu": "mean", "speed/peak_memory_gib": "max", "speed/gpu_hours": "max",
    "speed/process_hours": "max",
}  # fmt: skip
"""What Throughput logs, and what of it sums up a run."""


class RunLog(Logger):
    """Write ``logs/version_0/metrics.csv`` in the run's folder: a row for each time something is logged, flushed.

    A resumed run goes on in the file. What a killed one had logged after the checkpoint that is resumed from is logged
    anew, so with its first row the resumed run drops what is not before that row. A file that cannot be written (a full
    disk) stops no run: rows wait in memory for better times.

    Args:
        save_dir: The run's folder.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self.path = Path(save_dir) / "logs" / "version_0" / "metrics.csv"
        self._rows: list[dict[str, Any]] = []
        self._written = 0
        self._columns: list[str] = []  # of the file as it is; none: it is to be written anew

    @property
    def name(self) -> str:
        """Of the folder of logs."""
        return "logs"

    @property
    def version(self) -> int:
        """There is one log in a run."""
        return 0

    @property
    def log_dir(self) -> str:
        """Where the file is."""
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: they are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row.

        Args:
            metrics: Column -> number.
            step: Optimiser steps done before the one that is logged, as Lightning counts.
        """
        row = {"step": step, **{name: float(value) for name, value in metrics.items()}}
        if not self._rows and self.path.exists():
            self._rows = [*_rows_before(self.path, int(row["step"] or 0)), row]
        else:
            self._rows.append(row)
        with best_effort(str(self.path)):
            self._write()

    def _write(self) -> None:
        columns = sorted({name for row in self._rows[self._written :] for name in row} | set(self._columns))
        anew, self._columns = columns != self._columns, []  # what is cut off in the middle is written anew
        if anew:
            columns = sorted({name for row in self._rows for name in row})
            _table(self.path, columns, self._rows)
        else:
            with open(self.path, "a", newline="") as file:
                csv.DictWriter(file, columns).writerows(self._rows[self._written :])
        self._columns, self._written = columns, len(self._rows)


def _rows_before(path: Path, step: int) -> Iterator[dict[str, Any]]:
    """The rows of a file that were logged before training did that step.

    An evaluation bears the number of steps done, which is that of the next row of training.
    """
    whole = path.read_text().rpartition("\n")[0]  # a kill may have torn the last row
    for row in csv.DictReader(whole.splitlines()):
        of_evaluation = all(name.startswith(f"{IN_FIT}/") for name, value in row.items() if value and name != "step")
        if int(row["step"]) < step + of_evaluation:
            yield row


def rows_cut(run: Path, step: int, aside: Path) -> int:
    """Move the rows of a run's log that were logged from that step on to another file.

    Returns:
        How many there were.
    """
    path = RunLog(run).path
    if not path.exists():
        return 0
    kept, every = list(_rows_before(path, step)), list(_rows_before(path, sys.maxsize))
    later = [row for row in every if row not in kept]
    if later:
        columns = list(every[0])
        _table(aside, columns, later)
        _table(path, columns, kept)
    return len(later)


def _table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole table; it appears at once."""
    partial = path.with_name(f".{path.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    os.replace(partial, path)
