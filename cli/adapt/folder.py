"""The folder of an adaptation: one of these images by this method, with a record of that and of what is done."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tenshot.errors import InputError

__all__ = ["Folder", "folder_for"]

RECORD = "adapt.json"
SCHEMA = 1


class Folder:
    """A folder that belongs to one adaptation.

    Args:
        path: Where it is.
        of: What it is of, as JSON gives it back.
    """

    def __init__(self, path: Path, of: dict[str, Any]) -> None:
        self.path, self.of = path, of

    @property
    def is_free(self) -> bool:
        """Whether there is nothing in it yet."""
        return not self.path.exists() or (self.path.is_dir() and next(self.path.iterdir(), None) is None)

    @property
    def is_ours(self) -> bool:
        """Whether it is of the same."""
        record = self._read()
        return record.get("schema") == SCHEMA and record.get("of") == self.of

    @property
    def done(self) -> list[list[str]]:
        """The commands that have ended well."""
        done: list[list[str]] = self._read().get("done", [])
        return done

    def claim(self) -> None:
        """Write the record, if there is none. Of two that begin at once, one comes first, and the other sees it.

        Raises:
            InputError: It is of something else by now, or cannot be written.
        """
        partial = self._partial({"schema": SCHEMA, "of": self.of, "done": []})
        with suppress(FileExistsError):
            os.link(partial, self.path / RECORD)
        partial.unlink()
        if not self.is_ours:
            raise InputError(f"{self.path}: another tenshot adapt has just begun there: choose another --output")

    def note(self, words: list[str]) -> None:
        """Record that a command has ended well."""
        self._partial({"schema": SCHEMA, "of": self.of, "done": [*self.done, words]}).replace(self.path / RECORD)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads((self.path / RECORD).read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _partial(self, content: dict[str, Any]) -> Path:
        partial = self.path / f".{RECORD}.{os.getpid()}.partial"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content, indent=1) + "\n")
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror or error}): choose another --output"
            ) from None
        return partial


def folder_for(asked: str | None, name: str, of: dict[str, Any]) -> Folder:
    """The folder that the user names; else ``runs/adapt/<name>``, or the first of that with -2, -3, … that is of this.

    Args:
        asked: ``--output``.
        name: What to call it otherwise.
        of: What it is to be of.

    Raises:
        InputError: The user names one that holds something else.
    """
    folder = Folder(Path(asked) if asked is not None else Path("runs/adapt") / name, of)
    if asked is not None and not (folder.is_free or folder.is_ours):
        raise InputError(f"--output {asked} holds something else, which is not written over: name another folder")
    number = 1
    while not (folder.is_free or folder.is_ours):
        number += 1
        folder = Folder(Path("runs/adapt") / f"{name}-{number}", of)
    return folder
