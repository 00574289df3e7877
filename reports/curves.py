"""Training curves: what the CSV log holds, and the evaluations made on the way."""

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from tenshot.errors import InputError
from tenshot.reports.comparison import basis, differences
from tenshot.reports.groups import Group
from tenshot.reports.run import Run
from tenshot.reports.stopping import Stopping, stopping_of

__all__ = ["Chart", "Mark", "charts", "logged"]

POINTS = 200
"""Points of a line; more are averaged."""

Line = list[tuple[float, float]]
"""(step, value), by step."""

Kind = Literal["best", "copying", "seed"]
"""Of a mark: ``best.ckpt`` is of that step, or that is the best value of an option; samples begin to be copies there;
what one seed gave."""


@dataclass(frozen=True)
class Mark:
    """A point of a line that is to be seen.

    Args:
        method: Whose line.
        kind: What it says.
        step: Where it is.
        value: Likewise.
        title: What it is, in words.
    """

    method: str
    kind: Kind
    step: float
    value: float
    title: str


@dataclass
class Chart:
    """One quantity over the steps of training, or over the values of an option.

    Args:
        title: Its name.
        note: How it was measured, where that needs saying.
        lines: By method, one line a run.
        minor: Whether it only splits up another one, as the loss of a timestep bin does.
        marks: Points of lines.
        labels: Of the points 0, 1, … where these are no steps.
    """

    title: str
    note: str = ""
    lines: dict[str, list[Line]] = field(default_factory=dict)
    minor: bool = False
    marks: list[Mark] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def logged(run: Run) -> dict[str, Line]:
    """The columns of ``logs/version_*/metrics.csv``.

    Of a step that is in several of them, as other loggers leave them when a run is resumed, the last counts.

    Raises:
        InputError: A file has no column ``step``, or something in it is no number.
    """
    columns: defaultdict[str, dict[float, float]] = defaultdict(dict)
    for path in _versions(run.folder):
        whole = path.read_text().rpartition("\n")[0]  # a kill may have torn the last row
        for number, row in enumerate(csv.DictReader(whole.splitlines()), start=2):
            try:
                step = float(row["step"])
                values = {name: float(value) for name, value in row.items() if value}
            except (KeyError, ValueError, TypeError):
                raise InputError(
                    f"{path}, line {number}: not a row of numbers with a step: mend it or move the file away"
                ) from None
            for name, value in values.items():
                columns[name][step] = value
    return {name: sorted(points.items()) for name, points in columns.items() if name not in ("step", "epoch")}


def _versions(folder: Path) -> list[Path]:
    files = (folder / "logs").glob("version_*/metrics.csv")
    return sorted(files, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))


def charts(groups: Sequence[Group]) -> list[Chart]:
    """Every quantity that some run has at two steps or more: evaluations first, then losses.

    An evaluation measured in two ways has two charts.
    """
    found: dict[tuple[str, str], Chart] = {}
    for group in groups:
        for run in group.runs:
            stopping = stopping_of(run)
            for (value, way), line in _evaluated(run).items():
                chart = found.setdefault((value, way), Chart(value))
                chart.lines.setdefault(group.name, []).append(line)
                chart.marks += _marks(group, run, stopping, dict(line))
    _tell_apart(found)
    losses: dict[str, Chart] = {}
    for group in groups:
        for run in group.runs:
            for name, line in logged(run).items():
                if name.startswith(("eval/", "test/", "speed/")):  # evaluations/ says how they were measured; see cost
                    continue
                if len(line) > 1:
                    chart = losses.setdefault(name, Chart(name, minor=bool(re.search(r"_q\d+$", name))))
                    chart.lines.setdefault(group.name, []).append(thinned(line))
    order = sorted(losses.values(), key=lambda chart: (chart.minor, not chart.title.endswith("/loss"), chart.title))
    return [*found.values(), *order]


def _marks(group: Group, run: Run, stopping: Stopping, line: Mapping[float, float]) -> Iterator[Mark]:
    steps: tuple[tuple[Kind, int | None, str], ...] = (
        ("best", stopping.best, "best.ckpt"), ("copying", stopping.copying, "copying begins"),
    )  # fmt: skip
    for kind, step, what in steps:
        if step is not None and step in line:
            title = f"{group.title(run)}: {what}, step {step}, {line[step]:.4g}"
            yield Mark(group.name, kind, step, line[step], title)


def _evaluated(run: Run) -> dict[tuple[str, str], Line]:
    """Of what was measured twice at a step, the newest."""
    lines: defaultdict[tuple[str, str], dict[float, float]] = defaultdict(dict)
    for evaluation in run.evaluations:
        for metric, part in evaluation["metrics"].items():
            way = json.dumps(basis(evaluation, metric, run), sort_keys=True)
            for value, result in part["values"].items():
                if result is not None:
                    lines[value, way][float(evaluation["step"])] = float(result)
    return {name: list(line.items()) for name, line in lines.items() if len(line) > 1}


def _tell_apart(found: dict[tuple[str, str], Chart]) -> None:
    """Say how the second chart of a value was measured unlike the first."""
    first: dict[str, str] = {}
    for (value, way), chart in found.items():
        chart.note = differences(json.loads(way), json.loads(first[value])) if value in first else ""
        first.setdefault(value, way)


def thinned(line: Line) -> Line:
    """At most ``POINTS`` points: means over equally many neighbours; a point that is not finite is left out."""
    finite = [(step, value) for step, value in line if math.isfinite(value)]
    if len(finite) <= POINTS:
        return finite
    parts = np.array_split(np.array(finite), POINTS)
    return [(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]
