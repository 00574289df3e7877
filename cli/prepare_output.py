"""Where ``tenshot prepare`` puts its images: a folder, or archives of a number each; each whole or not at all."""

import contextlib
import fcntl
import io
import json
import os
import tarfile
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from tenshot.datamodules.files import ENDINGS
from tenshot.datamodules.labels import DATASET_JSON
from tenshot.errors import InputError

__all__ = ["FolderOutput", "Output", "ShardOutput", "only_writer", "output_at"]

# takes images by number, in order, and what to call when they are written but do not show themselves yet
Writer = Callable[[Iterable[tuple[int, bytes]], Callable[[], None]], None]

REPORT = "prepare_report.json"
PATIENCE = 10.0  # seconds until the processes of a killed run are gone


class Output(ABC):
    """The images of a data set under their new names.

    Args:
        path: What the user named.
        names: Of all images, in order; those that are refused will be missing.
        labels: The class of each, -1 for none, where folders would not tell it; written as a dataset.json.
    """

    def __init__(self, path: Path, names: Sequence[str], labels: Sequence[int] | None = None) -> None:
        self.path = path
        self.names = names
        self.labels = labels

    def label_file(self, numbers: Iterable[int]) -> bytes | None:
        """The dataset.json of these images; none where no label is told."""
        if self.labels is None:
            return None
        told = [[self.names[number], self.labels[number]] for number in numbers if self.labels[number] >= 0]
        return json.dumps({"labels": told}).encode() if told else None

    @property
    @abstractmethod
    def report(self) -> Path:
        """Where the report goes."""

    @abstractmethod
    def there(self) -> bool:
        """Whether there is already something at the place."""

    @abstractmethod
    def missing(self) -> Iterator[tuple[Sequence[int], Writer]]:
        """Parts of the work that are still to be done: the numbers of images, and what writes their PNGs."""


class FolderOutput(Output):
    """One PNG an image, in the folders of the source."""

    @property
    def report(self) -> Path:
        """In the folder; it is no image."""
        return self.path / REPORT

    def there(self) -> bool:
        """Whether the folder holds anything but what a run that was killed at its start leaves."""
        return self.path.is_dir() and any(not name.startswith(f".{REPORT}") for name in os.listdir(self.path))

    def missing(self) -> Iterator[tuple[Sequence[int], Writer]]:
        """All images that the folder lacks, as one part."""
        there = {
            os.path.relpath(os.path.join(folder, name), self.path)
            for folder, _, names in os.walk(self.path)
            for name in names
        }
        yield [number for number, name in enumerate(self.names) if name not in there], self._write

    def _write(self, images: Iterable[tuple[int, bytes]], before: Callable[[], None]) -> None:
        begun = self.path / ".image.partial"  # one for all: a killed run leaves at most this
        for number, data in images:
            target = self.path / self.names[number]
            target.parent.mkdir(parents=True, exist_ok=True)
            begun.write_bytes(data)
            begun.replace(target)
        if labels := self.label_file(range(len(self.names))):
            begun.write_bytes(labels)
            begun.replace(self.path / DATASET_JSON)
        begun.unlink(missing_ok=True)
        before()


class ShardOutput(Output):
    """Archives of ``shard_size`` source images each; ``faces.tar`` alone, or ``faces-00000.tar`` and so on."""

    def __init__(self, path: Path, names: Sequence[str], shard_size: int, labels: Sequence[int] | None = None) -> None:
        super().__init__(path, names, labels)
        self.parts = [range(first, min(first + shard_size, len(names))) for first in range(0, len(names), shard_size)]
        several = [path.with_name(f"{path.stem}-{number:05d}{path.suffix}") for number in range(len(self.parts))]
        self.targets = several if len(several) > 1 else [path]

    @property
    def report(self) -> Path:
        """Beside the archives."""
        return self.path.with_name(f"{self.path.name}.{REPORT}")

    def there(self) -> bool:
        """Whether one of the archives exists."""
        return any(target.exists() for target in self.targets)

    def missing(self) -> Iterator[tuple[Sequence[int], Writer]]:
        """Each archive that is not there, as a part."""
        for target, part in zip(self.targets, self.parts, strict=True):
            if not target.exists():
                yield part, partial(self._write, target, part)

    def _write(
        self, target: Path, part: range, images: Iterable[tuple[int, bytes]], before: Callable[[], None]
    ) -> None:
        begun = target.with_name(f".{target.name}.partial")
        count = 0
        with begun.open("wb") as file:
            with _archive(file, target) as add:
                for count, (number, data) in enumerate(images, 1):  # noqa: B007
                    add(self.names[number], data)
                if labels := self.label_file(part):
                    add(DATASET_JSON, labels)
            file.flush()
            os.fsync(file.fileno())
        before()
        if count:
            begun.replace(target)
        else:
            begun.unlink()


@contextlib.contextmanager
def _archive(file: io.BufferedWriter, target: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Add files to a zip or tar; the same files make the same archive. PNGs are stored as they are."""
    if target.suffix.lower() == ".zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped:
            yield lambda name, data: zipped.writestr(zipfile.ZipInfo(name), data)
        return
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tarred:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tarred.addfile(info, io.BytesIO(data))

        yield add


def output_at(path: str, names: Sequence[str], shard_size: int, labels: Sequence[int] | None = None) -> Output:
    """A folder, or archives if ``path`` ends in .zip or .tar.

    Raises:
        InputError: the place is taken by something else.
    """
    place = Path(path)
    if place.suffix.lower() in ENDINGS:
        if place.is_dir():
            raise InputError(f"{path} is a folder: name archives otherwise, or take the ending off")
        return ShardOutput(place, names, shard_size, labels)
    if place.suffix.lower() in (".gz", ".tgz", ".bz2", ".xz", ".zst"):
        raise InputError(f"{path}: images could not be reached by themselves in there: name a folder, .zip or .tar")
    if place.exists() and not place.is_dir():
        raise InputError(f"{path} is a file: name a folder to write to, or archives ending in .zip or .tar")
    return FolderOutput(place, names, labels)


@contextlib.contextmanager
def only_writer(output: Output) -> Iterator[None]:
    """Keep others from writing to the same place meanwhile.

    Raises:
        InputError: another process does.
    """
    output.report.parent.mkdir(parents=True, exist_ok=True)
    lock = output.report.with_name(f".{output.report.name}.lock")
    end = time.monotonic() + PATIENCE
    while True:
        with lock.open("a") as file:
            if _locked(file, lock):
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return
        if time.monotonic() > end:
            raise InputError(f"{output.path} is being written by another tenshot prepare: let it finish first")
        time.sleep(0.1)


def _locked(file: TextIO, lock: Path) -> bool:
    """Whether the lock is ours now; one that was taken away meanwhile locks nobody out."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(file.fileno()).st_ino == lock.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False
