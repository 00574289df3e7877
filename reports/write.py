"""Write the report: a page, an image and a table."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tenshot.errors import InputError
from tenshot.reports.comparison import Row, compare
from tenshot.reports.conditions import panel
from tenshot.reports.groups import Group
from tenshot.reports.images import Nearest, nearest_of, shot_sets
from tenshot.reports.page import page
from tenshot.reports.sheet import sheet
from tenshot.reports.shots import NotAvailable
from tenshot.run.code_version import code_version

__all__ = ["write_report"]

COLUMNS = (
    "value", "metric", "better", "method", "n", "mean", "std", "min", "max", "values", "runs", "comparable", "measured"
)  # fmt: skip


def write_report(groups: Sequence[Group], folder: Path) -> list[Path]:
    """Compare methods.

    Args:
        groups: The methods and their runs.
        folder: Where ``index.html``, ``comparison.png`` and ``comparison.csv`` go; made if need be.

    Returns:
        These files.

    Raises:
        InputError: Something in a run's folder cannot be read, or the folder cannot be written.
    """
    rows, shots, drawn_from = compare(groups), shot_sets(groups), panel(groups)
    nearest = {group.name: _nearest(group) for group in groups}
    made = f"made by tenshot {code_version()} on {datetime.now(UTC):%Y-%m-%d}"
    image = io.BytesIO()
    sheet(groups, rows, shots, drawn_from).save(image, "PNG", optimize=True)
    content = {
        "index.html": page(groups, rows, shots, drawn_from, nearest, made).encode(),
        "comparison.png": image.getvalue(),
        "comparison.csv": table(rows).encode(),
    }
    paths = [folder / name for name in content]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in zip(paths, content.values(), strict=True):
            path.write_bytes(data)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}): choose another --output") from None
    return paths


def table(rows: Sequence[Row]) -> str:
    """The values as CSV: a line for each value of each method and each way of measuring it.

    ``comparable`` is ``yes`` for the way that most runs share; otherwise it says how this one differs.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        better = {True: "more", False: "less", None: ""}[row.more_is_better]
        for method, cell in row.cells.items():
            ends = (min(cell.defined), max(cell.defined)) if cell.n else ("", "")
            values = " ".join("undefined" if value is None else repr(value) for value in cell.values)
            summary = ["" if number is None else number for number in (cell.mean, cell.std)]
            told = [values, "; ".join(cell.runs), row.apart or "yes", json.dumps(row.basis)]
            writer.writerow([row.value, row.metric, better, method, cell.n, *summary, *ends, *told])
    return text.getvalue()


def _nearest(group: Group) -> Nearest | NotAvailable:
    try:
        return nearest_of(group.runs[0])
    except NotAvailable as reason:
        return reason
