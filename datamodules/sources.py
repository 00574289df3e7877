"""Sources of real images: decoded once into memory, or read from files and archives whenever they are wanted."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tenshot.datamodules.batches import Batch
from tenshot.datamodules.index import ImageIndex
from tenshot.datamodules.reading import MOST_PIXELS, Fit, decoded, read_image
from tenshot.datamodules.refusals import Refusals, Substitutes

__all__ = ["FileSource", "IndexedSource", "MemorySource"]


class MemorySource:
    """Images held in memory.

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
        """The images of these numbers, as {"image": uint8 (N, 3, H, W)}."""
        return {"image": self.images[torch.tensor(indices, dtype=torch.int64)]}


class FileSource:
    """Images decoded from their files each time.

    Args:
        files: One file an image.
        size: Height and width they are brought to.
        title: What they are, for the log.
        max_pixels: Images with more are refused.
        fit: How they are brought to the size.
    """

    def __init__(
        self, files: Sequence[Path], size: int, title: str, max_pixels: int = MOST_PIXELS, fit: Fit | None = None
    ) -> None:
        self.files = files
        self.size = size
        self.title = title
        self.max_pixels = max_pixels
        self.fit = fit

    def __len__(self) -> int:
        return len(self.files)

    def __str__(self) -> str:
        return self.title

    def read(self, indices: Sequence[int]) -> Batch:
        """The images of these numbers, as {"image": uint8 (N, 3, size, size)}.

        Raises:
            InputError: a file cannot be used; names it.
        """
        images = (read_image(self.files[index], self.size, self.max_pixels, self.fit) for index in indices)
        return {"image": _stacked(images, len(indices))}


class IndexedSource:
    """Images of an index, in a folder or in archives, decoded each time.

    Args:
        index: All images there are.
        size: Height and width they are brought to.
        title: What they are, for the log.
        rows: Which of the index they are, int64 (N,); all by default.
        classes: The number of each class of the index, int64 (C,); None without labels.
        max_pixels: Images with more are refused.
        refusals: Counts the images that cannot be used; another takes the place of each. None: the first is an error.
    """

    def __init__(
        self,
        index: ImageIndex,
        size: int,
        title: str,
        rows: np.ndarray | None = None,
        classes: np.ndarray | None = None,
        max_pixels: int = MOST_PIXELS,
        refusals: Refusals | None = None,
    ) -> None:
        self.index = index
        self.size = size
        self.title = title
        self.rows = rows
        self.classes = classes
        self.max_pixels = max_pixels
        self.refusals = refusals
        self._substitutes = Substitutes(len(self), refusals)

    def __len__(self) -> int:
        return len(self.index if self.rows is None else self.rows)

    def __str__(self) -> str:
        return self.title

    def read(self, indices: Sequence[int]) -> Batch:
        """The images of these numbers: "image", uint8 (N, 3, size, size), and with classes "label", int64 (N,).

        Raises:
            InputError: an image cannot be used and no other takes its place; names it.
        """
        rows: list[int] = []
        batch = {"image": _stacked(self._images(indices, rows), len(indices))}
        if self.classes is not None:
            batch["label"] = torch.from_numpy(self.classes[self.index.entries["label"][rows]])
        return batch

    def class_numbers(self) -> Tensor | None:
        """The class of every image: int64 (N,); None without labels."""
        if self.classes is None:
            return None
        labels = self.index.entries["label"]
        return torch.from_numpy(self.classes[labels if self.rows is None else labels[self.rows]])

    def _images(self, indices: Sequence[int], rows: list[int]) -> Iterator[Tensor]:
        """The images of these numbers or those in their place; appends the row of the index of each."""
        for index in indices:
            row, image = self._usable(index)
            rows.append(row)
            yield image

    def _usable(self, index: int) -> tuple[int, Tensor]:
        def load(number: int) -> tuple[int, Tensor]:
            row = int(number if self.rows is None else self.rows[number])
            return row, decoded(self.index.read(row), self.index.title(row), self.size, self.max_pixels)

        return self._substitutes.usable(index, load)


def _stacked(loaded: Iterable[Tensor], count: int) -> Tensor:
    """(3, H, W) each -> contiguous (N, 3, H, W), with no copy but the one into it."""
    images = torch.empty(0, dtype=torch.uint8)
    for number, image in enumerate(loaded):
        if number == 0:
            images = torch.empty((count, *image.shape), dtype=torch.uint8)
        images[number] = image
    return images
