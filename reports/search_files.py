"""Show what a search found, and write it: a table, a plot, and the lines of a configuration that draws so."""

import csv
import io
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from tenshot.errors import InputError
from tenshot.reports.search import Searched, SearchRow, read_search, short, shown
from tenshot.reports.svg import picture

__all__ = ["write_search"]


def write_search(folder: Path) -> None:
    """Print the table, what is to be known of it and the configuration, and write ``search.csv``, ``.svg``, ``.yaml``.

    Args:
        folder: With the summary, ``search.json``.

    Raises:
        InputError: It cannot be read, or the folder cannot be written.
    """
    searched = read_search(folder)
    written = {"search.csv": table(searched), "search.svg": plot(searched)}
    if searched.best is not None:
        written["search.yaml"] = configuration(searched.best)
    try:
        for name, text in written.items():
            (folder / name).write_text(text)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}): free space") from None
    _show(searched, [folder / name for name in written])


def table(searched: Searched) -> str:
    """CSV: a line for each way of drawing.

    Its options; for each value its mean over the seeds, its standard deviation (n - 1) and the values themselves; for
    how many seeds the best way is better; whether this is it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = _names(searched)
    of_values = [column for name in names for column in (name, f"{name}_std", f"{name}_values")]
    writer.writerow([*searched.options, *of_values, "seeds", "best_wins", "best"])
    for row in searched.rows:
        told: list[Any] = [shown(value) for value in row.options.values()]
        for name in names:
            cell = row.cell(name)
            told += ["" if number is None else number for number in (cell.mean, cell.std)]
            told.append(" ".join("undefined" if value is None else repr(value) for value in cell.values))
        best, wins = row is searched.best, ""
        if searched.best is not None and not best:
            wins = str(searched.wins(row))
        writer.writerow([*told, " ".join(map(str, searched.seeds)), wins, "yes" if best else ""])
    return text.getvalue()


def plot(searched: Searched) -> str:
    """The value that was chosen by, as an SVG file."""
    charts = [chart for _, chart in searched.charts() if chart.title.startswith(f"{searched.by} by ")]
    style = files("tenshot.reports").joinpath("page.css").read_text()
    return picture(charts, f"{searched.folder.parents[1].name}: {searched.samples} samples", style)


def configuration(row: SearchRow) -> str:
    """The lines of a configuration of a method that draws this way."""
    settings: dict[str, Any] = {}
    apart = {
        option: value
        for option, value in row.options.items()
        if not any(option.startswith(f"{whole}.") for whole in row.lists)
    }
    for option, value in (apart | row.lists).items():
        inner, path = settings, ["model", "init_args", *short(option).split(".")]
        for group in path[:-1]:
            inner = inner.setdefault(group, {})
        inner[path[-1]] = value
    return yaml.safe_dump(settings, sort_keys=False)


def _names(searched: Searched) -> list[str]:
    """The names of all values, that which was chosen by first."""
    every = dict.fromkeys(name for row in searched.rows for values in row.values.values() for name in values)
    return sorted(every, key=lambda name: name != searched.by)


def _show(searched: Searched, paths: list[Path]) -> None:
    names, best, console = _names(searched), searched.best, Console()
    seeds = f"{len(searched.seeds)} seeds" if len(searched.seeds) > 1 else f"seed {searched.seeds[0]}"
    shown_table = Table(*map(short, searched.options), *names, title=f"{searched.samples} samples, {seeds}")
    for row in searched.rows:
        cells = [*map(shown, row.options.values()), *(str(row.cell(name)) for name in names)]
        shown_table.add_row(*cells, style="bold" if row is best else None)
    console.print(shown_table)
    if best is not None:
        better = "more" if searched.more_is_better else "less"
        print(f"best {searched.by} ({better} is better): {best.title}")
    for remark in searched.remarks():
        print(remark)
    if best is not None:
        config = searched.folder.parents[1] / "config.yaml"
        so = f"--config {config} --config {paths[-1]}, or " if config.exists() else ""
        print(f"\nto draw so: {so}in the configuration\n{configuration(best)}")
    for path in paths:
        print(path)
