"""What a search found: the best way of drawing, how sure that is, and the charts of its values."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tenshot.errors import InputError
from tenshot.reports.comparison import Cell
from tenshot.reports.curves import Chart, Mark

__all__ = ["SearchRow", "Searched", "read_search", "searches_of"]

SCHEMA = 1


@dataclass(frozen=True)
class SearchRow:
    """One way of drawing.

    Args:
        options: Options and their values.
        values: By seed, the names of values and what they were.
        lists: Of options of an element of a list, the list, whole.
    """

    options: dict[str, Any]
    values: dict[int, dict[str, float | None]]
    lists: dict[str, Any] = field(default_factory=dict)

    def cell(self, name: str) -> Cell:
        """A value over the seeds."""
        return Cell([values.get(name) for values in self.values.values()], [f"seed {seed}" for seed in self.values])

    @property
    def title(self) -> str:
        """``sampler.steps 10, guidance.scale 2``."""
        return ", ".join(f"{short(name)} {shown(value)}" for name, value in self.options.items())


@dataclass(frozen=True)
class Searched:
    """The summary of a search.

    Args:
        folder: Where it lies.
        by: The value to choose by.
        more_is_better: Whether more of it is.
        samples: In each set.
        seeds: Of the sets.
        rows: By the values of the options.
        about: ``checkpoint``, ``step``, ``weights`` and so on.
    """

    folder: Path
    by: str
    more_is_better: bool
    samples: int
    seeds: list[int]
    rows: list[SearchRow]
    about: dict[str, Any]

    @property
    def options(self) -> list[str]:
        """That were searched over."""
        return list(self.rows[0].options)

    @cached_property
    def best(self) -> SearchRow | None:
        """The way of the best mean; of equals the first; none where all are undefined for some seed."""
        whole = [row for row in self.rows if row.cell(self.by).n == len(self.seeds)]
        sign = -1 if self.more_is_better else 1
        return min(whole, key=lambda row: sign * (row.cell(self.by).mean or 0.0), default=None)

    def wins(self, other: SearchRow) -> int:
        """For how many seeds the best way is better than another one."""
        assert self.best is not None
        sign = -1 if self.more_is_better else 1
        pairs = [(self.best.values[seed][self.by], other.values[seed].get(self.by)) for seed in self.seeds]
        return sum(theirs is None or (ours is not None and sign * ours < sign * theirs) for ours, theirs in pairs)

    def remarks(self) -> Iterator[str]:
        """What is to be known of the best way: whether it lies at an edge, and how sure it is."""
        if self.best is None:
            yield f"{self.by} is undefined for all values: draw more samples with --evaluate.samples"
            return
        for name, value in self.best.options.items():
            tried = list(dict.fromkeys(row.options[name] for row in self.rows if _is_number(row.options[name])))
            if len(tried) > 1 and _is_number(value) and value in (min(tried), max(tried)):
                which, further = ("smallest", "smaller") if value == min(tried) else ("largest", "larger")
                yield (
                    f"{short(name)} {shown(value)} is the {which} value searched: the best one may lie beyond, search "
                    f"{further} ones too"
                )
        others = [row for row in self.rows if row is not self.best]
        if len(self.seeds) == 1:
            if others:
                yield (
                    "one seed: how far values scatter by the choice of samples is not known, --search.seeds 3 measures "
                    "it"
                )
            return
        close = [row for row in others if self.wins(row) < len(self.seeds)]
        if close:
            told = "; ".join(f"{row.title} (better for {self.wins(row)} of {len(self.seeds)})" for row in close)
            yield f"the best is not better for every seed than {told}: these seeds do not tell them apart"

    def charts(self) -> Iterator[tuple[str, Chart]]:
        """Every value along the option with most values, one chart for each combination of the others.

        Yields:
            What the chart is of, equal where searches of several runs can be drawn in one; and it, its lines by ``""``.
        """
        along = max(self.options, key=lambda name: len(self._tried(name)))
        places = {label: float(place) for place, label in enumerate(self._tried(along))}
        apart: defaultdict[str, list[SearchRow]] = defaultdict(list)
        for row in self.rows:
            rest = {name: value for name, value in row.options.items() if name != along}
            apart[SearchRow(rest, {}).title].append(row)
        names = list(dict.fromkeys(name for row in self.rows for values in row.values.values() for name in values))
        for name in sorted(names, key=lambda name: name != self.by):
            for others, rows in apart.items():
                chart = Chart(f"{name} by {short(along)}", note=others, labels=list(places))
                points = [(places[shown(row.options[along])], row) for row in rows]
                line = [(x, mean) for x, row in points if (mean := row.cell(name).mean) is not None]
                if not line:
                    continue
                chart.lines[""] = [line]
                chart.marks = [
                    Mark("", "seed", x, value, f"{row.title}, seed {seed}: {value:.4g}")
                    for x, row in points
                    for seed, values in row.values.items()
                    if (value := values.get(name)) is not None
                ]
                chart.marks += [
                    Mark("", "best", x, mean, f"best by {self.by}: {row.title}, {mean:.4g}")
                    for x, row in points
                    if row is self.best and (mean := row.cell(name).mean) is not None
                ]
                yield json.dumps([self.by, self.options, name, others, list(places)]), chart

    def _tried(self, name: str) -> list[str]:
        return list(dict.fromkeys(shown(row.options[name]) for row in self.rows))


def read_search(folder: Path) -> Searched:
    """Read the summary of a search.

    Raises:
        InputError: It cannot be read.
    """
    path = folder / "search.json"
    try:
        content = json.loads(path.read_text())
        if content["schema"] != SCHEMA:
            raise InputError(f"{path}: has schema {content['schema']!r}, this version reads {SCHEMA}: search again")
        rows = [
            SearchRow(
                row["options"], {int(seed): values for seed, values in row["values"].items()}, row.get("lists", {})
            )
            for row in content["rows"]
        ]
        about = {key: content[key] for key in ("method", "checkpoint", "step", "weights", "date")}
        return Searched(
            folder, content["by"], content["more_is_better"], content["samples"], content["seeds"], rows, about
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}): run tenshot search again, or move the folder away"
        ) from None


def searches_of(run: Path) -> list[Searched]:
    """The searches in a run's folder.

    Raises:
        InputError: One cannot be read.
    """
    return [read_search(path.parent) for path in sorted((run / "searches").glob("*/search.json"))]


def short(option: str) -> str:
    """An option of a method without its group."""
    return option.removeprefix("model.")


def shown(value: Any) -> str:
    """A value of an option, in words."""
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
