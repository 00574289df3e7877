"""The values of finished runs as rows, kept in docs/evidence_results.csv.

Names of values are those of ``tenshot test`` without the feature network, which is a column of its own.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from .attributes import AttributeNetwork, Truth, images_in, load
from .plan import Run

FILE = "evidence_results.csv"
Row = dict[str, str]


def read(file: Path) -> list[Row]:
    """All rows; none where there is no such file."""
    if not file.is_file():
        return []
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def write(rows: Iterable[Row], file: Path) -> None:
    """Write them; the file is whole or as it was."""
    rows = list(rows)
    partial = file.with_name(f".{file.name}.partial")
    with open(partial, "w", newline="") as lines:
        writer = csv.DictWriter(lines, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(file)


def with_new(kept: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The rows of before, but for the sets that there are new ones of."""
    sets = {row["set"] for row in new}
    return [row for row in kept if row["set"] not in sets] + list(new)


def gathered(root: Path, runs: Sequence[Run]) -> list[Row]:
    """A row of each measurement that is finished; of faces with what the attribute network says."""
    found: list[Row] = []
    network: AttributeNetwork | None = None
    truths: dict[tuple[str, int], Truth] = {}
    for run in runs:
        tasks = {task.name: task for task in run.tasks()}
        for name, where in run.measured.items():
            files = sorted(run.folder.glob(tasks[where].done))
            if not files:
                continue
            measured = json.loads(files[0].read_text())
            row = {
                "set": run.of.name, "target": run.target, "method": name, "seed": str(run.seed),
                "group": run.group_of(name),
                "step": str(measured["step"] if run.method else ""), "features": run.scale.features,
                "samples": str(measured["samples"]),
                "minutes": f"{minutes(run, where):.1f}",
            }  # fmt: skip
            values = {key.replace(f"_{run.scale.features}", ""): value for key, value in measured["values"].items()}
            if run.of.judged:
                network = network or load(root)
                images = run.folder / where / "images" if run.method else run.of.folder(root, run.target, run.seed)
                if (run.target, run.seed) not in truths:  # drawing them takes seconds
                    truths[run.target, run.seed] = Truth.of(network, run.target, run.seed)
                values = values | truths[run.target, run.seed].measure(network, images_in(images), run.target)
            found.append(row | {key: "" if value is None else f"{value:.6g}" for key, value in values.items()})
    return found


def minutes(run: Run, where: str) -> float:
    """That this measurement took, and with the last checkpoint the training, on a core where all were busy."""
    file = run.folder / "seconds.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()] if file.is_file() else []
    return (
        sum(
            float(seconds) for name, seconds in lines if name == where or (where == "last" and name.startswith("train"))
        )
        / 60
    )
