"""Metrics of methods side by side: means and spreads, and apart whatever was not measured in the same way."""

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tenshot.metrics import METRICS
from tenshot.metrics.base import TRUE_CONDITIONS
from tenshot.reports.groups import Group
from tenshot.reports.run import Evaluation, Run

__all__ = ["Cell", "Row", "basis", "compare", "differences"]

MOST_DIGITS = 6
"""After the point; smaller numbers are written with exponents."""


@dataclass
class Cell:
    """One value of one method.

    Args:
        values: One a run; None where it is undefined.
        runs: What each run is called.
    """

    values: list[float | None] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    @property
    def defined(self) -> list[float]:
        """The values there are."""
        return [value for value in self.values if value is not None]

    @property
    def n(self) -> int:
        """How many."""
        return len(self.defined)

    @property
    def mean(self) -> float | None:
        """Over the runs."""
        return statistics.fmean(self.defined) if self.n else None

    @property
    def std(self) -> float | None:
        """Over the runs, with n - 1; None for a single one."""
        return statistics.stdev(self.defined) if self.n > 1 else None

    def __str__(self) -> str:
        """``1.23 ± 0.09``: the mean to the second digit of the standard deviation."""
        if self.mean is None:
            return "undefined"
        if not self.std:
            return f"{self.mean:.4g}" + ("" if self.std is None else " ± 0")
        digits = max(0, 1 - math.floor(math.log10(self.std)))
        if digits > MOST_DIGITS:
            return f"{self.mean:.3g} ± {self.std:.2g}"
        return f"{self.mean:.{digits}f} ± {self.std:.{digits}f}"


@dataclass
class Row:
    """One value of all methods that were measured in one way.

    Args:
        value: Its name, such as ``fid``.
        metric: Its metric, such as ``frechet``.
        basis: What must be equal for two of its results to be compared.
        more_is_better: None where neither more nor less is, as the metric says.
        apart: How that differs from the row that most runs are in; None in that row.
        cells: By method.
    """

    value: str
    metric: str
    basis: dict[str, Any]
    more_is_better: bool | None = None
    apart: str | None = None
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def extent(self) -> tuple[float, float]:
        """The least and the largest value of any method."""
        defined = [value for cell in self.cells.values() for value in cell.defined]
        return min(defined), max(defined)

    @cached_property
    def best(self) -> str | None:
        """The method of the best mean; None where neither is better, two share it, or there is nothing to compare."""
        means = {name: cell.mean for name, cell in self.cells.items() if cell.mean is not None}
        if self.more_is_better is None or len(means) < 2:
            return None
        best = (max if self.more_is_better else min)(means.values())
        winners = [name for name, mean in means.items() if mean == best]
        return winners[0] if len(winners) == 1 else None


def compare(groups: Sequence[Group]) -> list[Row]:
    """Every value of every evaluation.

    A value that was measured in several ways has several rows: first the way of most runs, then each other one, with
    ``apart`` set.
    """
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for group, run, evaluation in _evaluations(groups):
        for metric, part in evaluation["metrics"].items():
            measured = basis(evaluation, metric, run)
            for place, (value, result) in enumerate(part["values"].items()):
                ways = found.setdefault((metric, value), {})
                row = ways.setdefault(
                    json.dumps(measured, sort_keys=True), Row(value, metric, measured, _more_is_better(metric, place))
                )
                cell = row.cells.setdefault(group.name, Cell())
                cell.values.append(result)
                cell.runs.append(group.label(run))
    rows: list[Row] = []
    for ways in found.values():
        most = max(ways.values(), key=lambda row: sum(len(cell.values) for cell in row.cells.values()))
        others = [row for row in ways.values() if row is not most]
        for other in others:
            other.apart = differences(other.basis, most.basis)
        rows += [most, *others]
    return rows


def _evaluations(groups: Sequence[Group]) -> Iterator[tuple[Group, Run, Evaluation]]:
    for group in groups:
        for run in group.runs:
            if run.evaluation is not None:
                yield group, run, run.evaluation


def basis(evaluation: Evaluation, metric: str, run: Run) -> dict[str, Any]:
    """What must be equal for two results of a metric to be compared.

    Its settings, the size of the images, those that the samples were compared with, in words, and what was chosen of
    the samples' condition.
    """
    parts = evaluation["metrics"]
    sizes = [part["settings"]["size"] for part in parts.values() if part["settings"].get("size")]
    size = sizes[0] if sizes else [run.config["data.image_size"]] * 2 if run.config.get("data.image_size") else None
    told = {"size": size} | dict(_flat(parts[metric]["settings"]))
    known = METRICS.get(metric.removesuffix(TRUE_CONDITIONS))
    for compared_with in ("reference", "shots"):
        if known is None or compared_with in known.needs:
            told[compared_with] = evaluation.get(compared_with)
    return told | dict((evaluation.get("drawn_by") or {}).get("condition") or {})


def _more_is_better(metric: str, place: int) -> bool | None:
    """As the metric says of the value that has this place in its reports; None of a metric that is not ours."""
    known = METRICS.get(metric.removesuffix(TRUE_CONDITIONS))
    told = known.more_is_better if known is not None else ()
    return told[place] if place < len(told) else None


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """``n_generated 200, not 1000``: how two bases differ."""
    absent = object()
    told = [
        f"{name} {_short(one.get(name, 'absent'))}, not {_short(other.get(name, 'absent'))}"
        for name in dict.fromkeys([*one, *other])
        if one.get(name, absent) != other.get(name, absent)
    ]
    return "; ".join(told)


def _short(value: Any) -> str:
    """A hash by its beginning."""
    text = "none" if value is None else str(value)
    return f"{text[:8]}…" if len(text) == 64 and " " not in text else text
