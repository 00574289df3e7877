"""Sources of real pictures: decoded once into memory, or read from files and archives whenever they are wanted."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tenshot.datamodules.batches import Batch
from tenshot.datamodules.index import PictureIndex
from tenshot.datamodules.reading import decoded, read_picture

__all__ = ["FileSource", "IndexedSource", "MemorySource"]


class MemorySource:
    """Pictures held in memory.

    Args:
        images: uint8 (N, 3, H, W).
        title: What they are, for the log.
    """

    def __init__(self, images: Tensor, title: str) -> None:
        self.images = images
        self.title = title

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        return self.title

    def read(self, indices: Sequence[int]) -> Batch:
        """The pictures of these numbers, as {"image": uint8 (N, 3, H, W)}."""
        return {"image": self.images[torch.tensor(indices, dtype=torch.int64)]}


class FileSource:
    """Pictures decoded from their files each time.

    Args:
        files: One file a picture.
        size: Height and width they are brought to.
        title: What they are, for the log.
    """

    def __init__(self, files: Sequence[Path], size: int, title: str) -> None:
        self.files = files
        self.size = size
        self.title = title

    def __len__(self) -> int:
        return len(self.files)

    def __str__(self) -> str:
        return self.title

    def read(self, indices: Sequence[int]) -> Batch:
        """The pictures of these numbers, as {"image": uint8 (N, 3, size, size)}.

        Raises:
            InputError: a file cannot be used; names it.
        """
        return {"image": _stacked((read_picture(self.files[index], self.size) for index in indices), len(indices))}


class IndexedSource:
    """Pictures of an index, in a folder or in archives, decoded each time.

    Args:
        index: All pictures there are.
        size: Height and width they are brought to.
        title: What they are, for the log.
        rows: Which of the index they are, int64 (N,); all by default.
        classes: The number of each class of the index, int64 (C,); None without labels.
    """

    def __init__(
        self,
        index: PictureIndex,
        size: int,
        title: str,
        rows: np.ndarray | None = None,
        classes: np.ndarray | None = None,
    ) -> None:
        self.index = index
        self.size = size
        self.title = title
        self.rows = rows
        self.classes = classes

    def __len__(self) -> int:
        return len(self.index if self.rows is None else self.rows)

    def __str__(self) -> str:
        return self.title

    def read(self, indices: Sequence[int]) -> Batch:
        """The pictures of these numbers: "image", uint8 (N, 3, size, size), and with classes "label", int64 (N,).

        Raises:
            InputError: a picture cannot be used; names it.
        """
        rows = [int(index if self.rows is None else self.rows[index]) for index in indices]
        batch = {"image": _stacked((self._picture(row) for row in rows), len(rows))}
        if self.classes is not None:
            batch["label"] = torch.from_numpy(self.classes[self.index.entries["label"][rows]])
        return batch

    def _picture(self, row: int) -> Tensor:
        return decoded(self.index.read(row), self.index.title(row), self.size)


def _stacked(pictures: Iterable[Tensor], count: int) -> Tensor:
    """(3, H, W) each -> contiguous (N, 3, H, W), with no copy but the one into it."""
    images = torch.empty(0, dtype=torch.uint8)
    for number, picture in enumerate(pictures):
        if number == 0:
            images = torch.empty((count, *picture.shape), dtype=torch.uint8)
        images[number] = picture
    return images
