"""A folder of samples is of one model: a file beside them says what drew them, and each image bears its mark."""

import json
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from tenshot.callbacks.drawn_by import DrawnBy
from tenshot.datamodules.labels import DATASET_JSON
from tenshot.datamodules.reading import is_image
from tenshot.distributed.first_rank import of_first_rank
from tenshot.errors import InputError
from tenshot.run.text_file import write_whole

__all__ = ["RECORD", "DrawnFolder", "bears"]

RECORD = "drawn_by.json"
"""Name of the file beside the images."""
SCHEMA = 1
KEY = b"tenshot"
"""Of the text in a PNG that holds its mark."""
PNG, END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"
MOST_HEAD = 1024  # bytes before the pixels of a PNG of ours


class DrawnFolder:
    """A folder that holds samples of one model and one way to draw.

    An image counts as drawn if it is a whole PNG that bears the mark of its number and of what draws now, so that
    a file that somebody else put there is never taken for a sample.

    Args:
        path: The folder.
        by: What draws.
        option: The command-line option that names another folder.
    """

    foreign = "not drawn by this model and settings"
    """What is said of a file without the mark."""

    def __init__(self, path: Path, by: DrawnBy, option: str) -> None:
        self.path, self.by, self.option, self.named = path, by, option, path

    @property
    def history(self) -> dict[str, Any]:
        """What is recorded each time that it is new, beside what was before."""
        return {"code": self.by.origin["code"]}

    def file(self, number: int) -> Path:
        """Where a sample goes."""
        return self.path / f"{number:06d}.png"

    def mark(self, number: int) -> str:
        """What the PNG of a sample says of itself."""
        return f"{self.by.digest} {number}"

    def numbers(self, count: int) -> Sequence[int]:
        """Those of so many samples."""
        return range(count)

    def bears(self, file: Path, number: int) -> bool:
        """Whether a file is whole and bears the mark of a sample."""
        return bears(file, self.mark(number))

    def claim(self, trainer: Trainer, count: int) -> set[int]:
        """Record what draws, and find the numbers that are there; on all ranks, of which the first looks.

        Args:
            trainer: Whose ranks they are.
            count: How many samples there are to be.

        Raises:
            InputError: The folder holds images of something else, or cannot be written.
        """
        return of_first_rank(trainer, lambda: self._claimed(count))

    def tell_classes(self, classes: Sequence[int]) -> None:
        """Write a dataset.json that tells the class of each sample, from the first; of more samples that stays.

        Raises:
            InputError: The folder cannot be written.
        """
        labels = [[self.file(number).name, label] for number, label in enumerate(classes)]
        target = self.path / DATASET_JSON
        with suppress(OSError, ValueError, KeyError, TypeError):
            if len(json.loads(target.read_text())["labels"]) >= len(labels):
                return
        write_whole(target, json.dumps({"labels": labels}))

    def _claimed(self, count: int) -> set[int]:
        record = self.path / RECORD
        if not record.exists():
            self._refuse_images()
            self._write({name: [value] for name, value in self.history.items()} | {"date": _now()}, new=True)
        self._compare(_read(record))
        files = {number: self.file(number) for number in self.numbers(count)}
        folders = {file.parent for file in files.values()}
        there = {folder: set(os.listdir(folder)) for folder in folders if folder.is_dir()}
        drawn = set()
        for number, file in files.items():
            if file.name in there.get(file.parent, ()) and file.stat().st_size:  # lost power leaves empty files
                if not self.bears(file, number):
                    raise InputError(
                        f"{file}: {self.foreign}, though its name is that of a sample: move it away, or choose another "
                        f"folder with {self._elsewhere()}"
                    )
                drawn.add(number)
        return drawn

    def _refuse_images(self) -> None:
        """A folder without a record must not hold images: nobody knows what drew them."""
        if self.path.is_dir():
            foreign = min((entry.name for entry in os.scandir(self.path) if is_image(entry.name)), default=None)
            if foreign is not None:
                raise InputError(
                    f"{self.path} holds images ({foreign}) but no {RECORD} that says what drew them: choose another "
                    f"folder with {self._elsewhere()}, or move them away"
                )

    def _compare(self, record: dict[str, Any]) -> None:
        """Make sure that the folder is of what draws now, and note another version of the code.

        Raises:
            InputError: It is not.
        """
        theirs, ours = record["depends_on"], self.by.depends_on
        differ = [name for name in dict.fromkeys([*ours, *theirs]) if theirs.get(name) != ours.get(name)]
        if differ:
            told = [f"{name} {theirs.get(name)!r}, not {ours.get(name)!r}" for name in differ]
            told = [text for name, text in zip(differ, told, strict=True) if name != "weights_sha256"]
            if "weights_sha256" in differ:
                then, now = (f"{o.get('weights')} weights of step {o.get('step')}" for o in (record, self.by.origin))
                told.insert(0, f"{then}, not the {now}" if then != now else "other weights of this step")
            raise InputError(
                f"{self.path} holds samples of something else ({'; '.join(told)}): choose another folder with "
                f"{self._elsewhere()}, or move them away"
            )
        new = {name: value for name, value in self.history.items() if value not in record.get(name, [])}
        if "code" in new:
            then, now = record["code"][-1], new["code"]
            rank_zero_info(f"{self.path}: drawn so far by version {then} of the code, from here on by {now}")
        if new:
            lists = {name: record.get(name, []) + [value] * (name in new) for name, value in self.history.items()}
            self._write({**lists, "date": record.get("date")}, new=False)

    def _write(self, history: dict[str, Any], new: bool) -> None:
        content = {"schema": SCHEMA, **self.by.origin, **history, "depends_on": self.by.depends_on}
        record = self.path / RECORD
        partial = self.path / f".{RECORD}.{os.getpid()}.partial"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content, indent=1) + "\n")
            if new:  # of two that begin at once, one comes first and the other compares itself with it
                with suppress(FileExistsError):
                    os.link(partial, record)
                partial.unlink()
            else:
                partial.replace(record)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise InputError(
                f"{record}: could not be written ({error.strerror or error}): free space or choose another folder"
            ) from None

    def _elsewhere(self) -> str:
        """The option, with a folder that is free."""
        number = 2
        while (free := self.named.with_name(f"{self.named.name}-{number}")).exists():
            number += 1
        return f"{self.option} {free}"


def _read(record: Path) -> dict[str, Any]:
    try:
        content = json.loads(record.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{record}: cannot be read ({type(error).__name__}): choose another folder") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise InputError(f"{record}: no record of samples of this version: choose another folder")
    return content


def bears(file: Path, mark: str, longer: bool = False) -> bool:
    """Whether a file is a whole PNG with this mark; ``longer``: or with one that goes on after it."""
    with file.open("rb") as opened:
        head = opened.read(MOST_HEAD)
        opened.seek(max(0, file.stat().st_size - len(END)))
        end = opened.read()
    text = KEY + b"\0" + mark.encode()
    there = struct.pack(">I", len(text)) + b"tEXt" + text in head or (longer and b"tEXt" + text + b" " in head)
    return head.startswith(PNG) and end == END and there


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
