"""What ``tenshot search`` leaves in ``searches/`` of a run's folder: measurements, and a summary of each search."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from tenshot.errors import InputError
from tenshot.run.text_file import write_whole

__all__ = ["SUMMARY", "Records", "digest_of", "in_order", "summary_folder", "write_summary"]

SCHEMA = 1
SUMMARY = "search.json"
REMEDY = "free space, or choose another folder with --trainer.default_root_dir"
MEASURED = "measured"
"""Folder of single measurements, which all searches in a run's folder share."""


def digest_of(measurement: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits, equal where all that a measurement depends on is."""
    return hashlib.sha256(json.dumps(measurement, sort_keys=True).encode()).hexdigest()[:16]


class Records:
    """Measurements by what they depend on: one file each, which appears whole or not at all and never changes.

    Args:
        folder: ``searches/`` of a run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self) -> None:
        """Make the folder, before anything is drawn.

        Raises:
            InputError: It cannot be written.
        """
        write_whole(self.folder / MEASURED / ".claimed", "", REMEDY)
        (self.folder / MEASURED / ".claimed").unlink(missing_ok=True)

    def find(self, digest: str) -> dict[str, Any] | None:
        """The result of a measurement (docs/evaluation.md); none if it was not made yet.

        Raises:
            InputError: The file is not of that measurement.
        """
        path = self._file(digest)
        if not path.exists():
            return None
        content = _read(path)
        if content is None or digest_of(content.get("measurement", {})) != digest or "values" not in content["result"]:
            raise InputError(f"{path}: cannot be read, or was changed: move it away, and it is measured again")
        result: dict[str, Any] = content["result"]
        return result

    def keep(self, measurement: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Write a result with all that it depends on.

        Raises:
            InputError: The folder cannot be written.
        """
        content = {"schema": SCHEMA, "measurement": measurement, "result": result}
        write_whole(self._file(digest_of(measurement)), json.dumps(content, indent=1, allow_nan=False) + "\n", REMEDY)

    def _file(self, digest: str) -> Path:
        return self.folder / MEASURED / f"{digest}.json"


def summary_folder(searches: Path, name: str, identity: Mapping[str, Any]) -> tuple[Path, list[dict[str, Any]]]:
    """Where the summary of a search goes, and the rows that it has already.

    That is ``name``, or the first of ``name-2``, ``name-3``, … that holds no search of something else.

    Args:
        searches: ``searches/`` of a run.
        name: Of the search.
        identity: All that its rows have in common.
    """
    folder, number = searches / name, 1
    while (folder / SUMMARY).exists():
        content = _read(folder / SUMMARY) or {}
        if content.get("identity") == identity:
            return folder, content["rows"]
        theirs = content.get("identity", {})
        differ = [name for name in dict.fromkeys([*identity, *theirs]) if identity.get(name) != theirs.get(name)]
        rank_zero_info(f"{folder} holds a search of other {', '.join(differ)}: this one does not go there")
        number += 1
        folder = searches / f"{name}-{number}"
    return folder, []


def write_summary(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``search.json``.

    Raises:
        InputError: The folder cannot be written.
    """
    write_whole(folder / SUMMARY, json.dumps({"schema": SCHEMA, **content}, indent=1, allow_nan=False) + "\n", REMEDY)


def in_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by the values of their options: numbers by size, others as they were given."""
    every = {name: [row["options"][name] for row in rows] for name in rows[0]["options"]}
    numeric = {name: all(isinstance(v, int | float) for v in values) for name, values in every.items()}
    place = lambda name, value: value if numeric[name] else every[name].index(value)  # noqa: E731
    return sorted(rows, key=lambda row: [place(name, value) for name, value in row["options"].items()])


def _read(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and content.get("schema") == SCHEMA:
            return content
    return None
