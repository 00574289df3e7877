"""The tables of metrics on the page: one for what can be compared, one for what was measured otherwise."""

import re
from collections.abc import Mapping, Sequence
from html import escape

from tenshot.reports.comparison import Cell, Row, direction
from tenshot.reports.groups import Group
from tenshot.reports.markup import code, missing, section, swatch, table
from tenshot.reports.svg import dots

__all__ = ["metrics_section"]

ARROWS = {True: "↑ more is better", False: "↓ less is better", None: ""}


def metrics_section(groups: Sequence[Group], rows: Sequence[Row], colours: Mapping[str, int]) -> str:
    """Methods by metrics."""
    main, apart = [row for row in rows if row.apart is None], [row for row in rows if row.apart is not None]
    if not rows:
        return section("metrics", "Metrics", f"<p>{missing('No run has evaluations: run tenshot test.')}</p>")
    names = [group.name for group in groups]
    measured_otherwise = {(row.value, name) for row in apart for name in row.cells}
    heads = [("", ""), *((name, swatch(name, colours)) for name in names)]
    body = []
    for row in main:
        cells = [
            _cell(row, group, colours[group.name], (row.value, group.name) in measured_otherwise) for group in groups
        ]
        body.append((_name(row), cells))
    parts = [
        "<p>Mean over the runs of a method ± their standard deviation (n − 1); n is the number of runs. Each dot is a "
        "run, on a scale of the row; the stroke is the mean. Bold is the best mean of the row, which says nothing of "
        "chance.</p>",
        table(heads, body),
        _apart(apart, colours),
        _settings(main),
    ]
    return section("metrics", "Metrics", *parts)


def _name(row: Row) -> str:
    arrow = ARROWS[direction(row.value)]
    return code(row.value) + (f"<small>{arrow}</small>" if arrow else "")


def _cell(row: Row, group: Group, colour: int, otherwise: bool) -> str:
    cell = row.cells.get(group.name)
    link = f'<a href="#apart-{_anchor(row.value)}">measured otherwise</a>' if otherwise else ""
    if cell is None:
        return link or missing("not measured")
    defined = [value for other in row.cells.values() for value in other.defined]
    drawing = dots(cell.defined, min(defined), max(defined), cell.mean, colour) if cell.n else ""
    some = f"<small>{link} in part</small>" if link else ""
    return f"{spread(cell, best=row.best == group.name, runs=len(group.runs))}{drawing}{some}"


def spread(cell: Cell, best: bool = False, runs: int = 0) -> str:
    """``1.29 ± 0.03``, and of how many of the method's runs."""
    if not cell.n:
        return missing("undefined") + f" <small>in {len(cell.values)} of {len(cell.values)} runs</small>"
    lost = len(cell.values) - cell.n
    note = f"n = {cell.n}" + (f" of {runs} runs" if runs > len(cell.values) else "")
    note += f", undefined in {lost}" if lost else ""
    return f'<span class="{"best" if best else "mean"}">{cell}</span> <small>{note}</small>'


def _apart(rows: Sequence[Row], colours: Mapping[str, int]) -> str:
    """What cannot be compared with the table above."""
    if not rows:
        return ""
    seen: set[str] = set()
    body = []
    for row in rows:
        anchor = "" if row.value in seen else f' id="apart-{_anchor(row.value)}"'
        seen.add(row.value)
        values = "<br>".join(f"{swatch(name, colours)}: {spread(cell)}" for name, cell in row.cells.items())
        body.append((f"<span{anchor}>{code(row.value)}</span>", [escape(row.apart or ""), values]))
    heads = [("", ""), ("differs in", "differs in"), ("values", "values")]
    return (
        "<h3>Measured otherwise, not to be compared with the table above</h3>"
        "<p>The table above holds, for each value, the way of measuring that most runs share.</p>" + table(heads, body)
    )


def _settings(rows: Sequence[Row]) -> str:
    """How the values of the table were measured, each metric once."""
    told = {row.metric: row.basis for row in rows}
    body = [
        (code(metric), ["; ".join(f"{escape(k)} {escape(_plain(v))}" for k, v in basis.items())])
        for metric, basis in told.items()
    ]
    heads = [("metric", "metric"), ("measured with", "measured with")]
    return f"<details><summary>How the table was measured</summary>{table(heads, body)}</details>"


def _plain(value: object) -> str:
    text = "none" if value is None else str(value)
    return f"{text[:12]}…" if re.fullmatch(r"[0-9a-f]{64}", text) else text


def _anchor(value: str) -> str:
    return re.sub(r"\W", "-", value)
