"""Rows of a card: read, merged with those of earlier calls, kept in ``benchmarks/results/gpu_<card>.json``."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.worker import END

Row = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """What is known of a card.

    Args:
        card: Its name, as its driver gives it.
        rows: In their order, one of a stage and name.
    """

    card: str
    rows: list[Row]

    def find(self, stage: str, name: str) -> Row | None:
        """A row that went well."""
        found = [row for row in self.rows if (row["stage"], row["name"], row["status"]) == (stage, name, "ok")]
        return found[0] if found else None

    def of(self, stage: str) -> list[Row]:
        """A stage's rows that went well."""
        return [row for row in self.rows if row["stage"] == stage and row["status"] == "ok"]

    def number(self, stage: str, name: str, key: str = "ms") -> float | None:
        """A value of a row, if it was measured."""
        value = (self.find(stage, name) or {}).get(key)
        return float(value) if isinstance(value, int | float) else None


def merged(rows: Iterable[Row]) -> list[Row]:
    """One row of each stage and name: the last, in the place of the first. Bookkeeping is left out."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        found[row["stage"], row["name"]] = row
    return [
        row
        for row in found.values()
        if row["name"] != END and not (row["name"].startswith("whole ") and row["status"] == "ok")
    ]


def lines_of(path: Path) -> list[Row]:
    """Rows of a file of JSON lines; a last line that a kill tore is left out."""
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]


def card_of(rows: Iterable[Row]) -> str | None:
    """The name that some row has."""
    found = [row["card"] for row in rows if row.get("card")]
    return found[-1] if found else None


def slug(card: str) -> str:
    """NVIDIA H100 80GB HBM3  ->  h100_80gb_hbm3"""
    return re.sub(r"[^a-z0-9]+", "_", card.lower().removeprefix("nvidia").strip()).strip("_")


def short(card: str) -> str:
    """NVIDIA H100 80GB HBM3  ->  H100"""
    return next((word for word in card.split() if any(letter.isdigit() for letter in word)), card)


def read(path: Path) -> Results:
    """What was kept of a card."""
    found = json.loads(path.read_text())
    return Results(found["card"], found["rows"])


def kept(folder: Path) -> list[Results]:
    """Of all cards, by name."""
    return [read(path) for path in sorted(folder.glob("gpu_*.json"))]


def keep(folder: Path, card: str, rows: list[Row]) -> Results:
    """Merge rows with what was kept of that card, and keep the whole; new ones say of which run they are."""
    path = folder / f"gpu_{slug(card)}.json"
    before = read(path).rows if path.exists() else []
    run = 1 + max((row["run"] for row in before), default=0)
    results = Results(card, merged([*before, *({**row, "run": run} for row in rows)]))
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in results.rows)
    path.write_text(f'{{"card": {json.dumps(card)}, "rows": [\n{lines}\n]}}\n')
    return results
