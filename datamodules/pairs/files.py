"""Images and conditions that belong together, in folders, archives or wherever a list says."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from tenshot.datamodules.choice import Listed, digest_of
from tenshot.datamodules.reading import file_bytes

__all__ = ["Files", "ListedFiles", "Pairs"]


class Files(Protocol):
    """Files by number: an ``ImageIndex``, or those of a list."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """Where it lies in its folder or archive."""
        ...

    def title(self, row: int) -> str:
        """How errors name it."""
        ...

    def read(self, row: int) -> bytes:
        """What is in it."""
        ...


@dataclass(frozen=True)
class ListedFiles:
    """Files that a list names.

    Args:
        folder: What their names are relative to.
        names: One each.
    """

    folder: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        """As the list has it."""
        return self.names[row]

    def title(self, row: int) -> str:
        """With its folder."""
        return str(self.folder / self.names[row])

    def read(self, row: int) -> bytes:
        """What is in it."""
        return file_bytes(self.folder / self.names[row])


@dataclass(frozen=True)
class Pairs:
    """Images, and the files of the condition of each.

    Args:
        title: Where they are from.
        images: The files that images are among.
        rows: Which of them they are, int64 (N,).
        conditions: For each part of the condition the files that it is among, and which of them, int64 (N,).
    """

    title: str
    images: Files
    rows: np.ndarray
    conditions: tuple[tuple[Files, np.ndarray], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, number: int) -> str:
        """The name of an image."""
        return self.images.name(int(self.rows[number]))

    def names(self) -> list[str]:
        """Those of all images."""
        return [self.name(number) for number in range(len(self))]

    @cached_property
    def digest(self) -> str:
        """Of the names of all files: equal where the pairs are."""
        places = ((self.images, self.rows), *self.conditions)
        return digest_of(files.name(int(row)) for files, rows in places for row in rows)

    def image(self, number: int) -> tuple[bytes, str]:
        """The file of an image and how errors name it."""
        row = int(self.rows[number])
        return self.images.read(row), self.images.title(row)

    def condition(self, number: int) -> tuple[list[bytes], list[str]]:
        """The files of its condition and how errors name them."""
        places = [(files, int(rows[number])) for files, rows in self.conditions]
        return [files.read(row) for files, row in places], [files.title(row) for files, row in places]

    def both(self, number: int) -> bytes:
        """All the files of a pair, for the record of what a run was trained on."""
        return self.image(number)[0] + b"".join(self.condition(number)[0])

    def listed(self) -> Listed:
        """The pairs by the names of their images, for the choice among them."""
        place = self.title if "*" in self.title else str(Path(self.title).resolve())
        return Listed(place, len(self), digest_of(self.names()), self.names, self.both)
