"""Sources of real pictures: decoded once into memory, or read from their files whenever they are wanted."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tenshot.datamodules.batches import Batch
from tenshot.datamodules.reading import read_picture

__all__ = ["FileSource", "MemorySource"]


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
        labels: The class of each file.
    """

    def __init__(self, files: Sequence[Path], size: int, title: str, labels: Sequence[int] | None = None) -> None:
        self.files = files
        self.size = size
        self.title = title
        self.labels = labels

    def __len__(self) -> int:
        return len(self.files)

    def __str__(self) -> str:
        return self.title

    def read(self, indices: Sequence[int]) -> Batch:
        """The pictures of these numbers: "image", uint8 (N, 3, size, size), and with classes "label", int64 (N,).

        Raises:
            InputError: a file cannot be used; names it.
        """
        batch = {"image": torch.stack([read_picture(self.files[index], self.size) for index in indices])}
        if self.labels is not None:
            batch["label"] = torch.tensor([self.labels[index] for index in indices])
        return batch
