"""Pairs as sources of images: read from their files each time, or all at once into memory."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from tenshot.datamodules.batches import CONDITION_IMAGE, Batch
from tenshot.datamodules.conventions import FITTING
from tenshot.datamodules.pairs.files import Pairs
from tenshot.datamodules.pairs.masks import palette_in_use
from tenshot.datamodules.pairs.reader import ConditionReader, require_same_shape
from tenshot.datamodules.reading import ImageError, opened, require_size
from tenshot.datamodules.refusals import Refusals, Substitutes

__all__ = ["PairSource", "PairsInMemory", "check_some", "first_palette"]

SOME = 100  # pairs


class PairSource:
    """Images and their conditions, decoded each time.

    Args:
        pairs: All that there are.
        rows: Which of them they are.
        size: Height and width that the images are brought to.
        reader: Reads the conditions.
        title: What they are, for the log.
        refusals: Counts the pairs that cannot be used; another takes the place of each. None: the first is an error.
    """

    def __init__(
        self,
        pairs: Pairs,
        rows: Sequence[int],
        size: int,
        reader: ConditionReader,
        title: str,
        refusals: Refusals | None = None,
    ) -> None:
        self.pairs = pairs
        self.rows = rows
        self.size = size
        self.reader = reader
        self.title = title
        self.refusals = refusals
        self._substitutes = Substitutes(len(rows), refusals)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        return self.title

    def read(self, indices: Sequence[int]) -> Batch:
        """These pairs: "image" uint8 (N, 3, size, size), "condition_image" uint8 (N, C, S, S).

        Raises:
            InputError: a pair cannot be used and no other takes its place; names the file.
        """
        return _batch([self._substitutes.usable(index, self.pair) for index in indices])

    def pair(self, number: int) -> tuple[Tensor, Tensor]:
        """The image of a number, uint8 (3, size, size), and its condition, uint8 (C, S, S).

        Raises:
            ImageError: They cannot be used, or don't belong together; names the file.
        """
        row, reader = self.rows[number], self.reader
        data, title = self.pairs.image(row)
        photo = opened(data, title, reader.max_pixels)
        require_size(photo, title, self.size, "--data.image_size")
        image = FITTING[reader.convention](photo, self.size)
        if not self.pairs.conditions:
            return image, reader.of_photo(photo, title)
        files, titles = self.pairs.condition(row)
        condition, sizes = reader.decoded(files, titles)
        for size, theirs in zip(sizes, titles, strict=True):
            require_same_shape(photo.size, size, (title, theirs), reader.convention == "piti")
        return image, condition


class PairsInMemory:
    """Few pairs, all checked and decoded when this is made.

    Args:
        source: The pairs.

    Raises:
        InputError: One cannot be used; names the file.
    """

    def __init__(self, source: PairSource) -> None:
        self.title = str(source)
        threads = min(8, len(os.sched_getaffinity(0)))
        with ThreadPoolExecutor(threads) as pool:  # decoders don't hold the interpreter's lock
            self._batch = _batch(pool.map(source.pair, range(len(source))))

    def __len__(self) -> int:
        return len(self._batch["image"])

    def __str__(self) -> str:
        return self.title

    def read(self, indices: Sequence[int]) -> Batch:
        """These pairs, as ``PairSource`` gives them."""
        rows = torch.tensor(indices, dtype=torch.int64)
        return {name: value[rows] for name, value in self._batch.items()}


def check_some(source: PairSource) -> None:
    """Look at some of many pairs, evenly spread, before any training: what is wrong with one mask is so with most.

    An image that cannot be read is no more than one of many, in whose place another comes.

    Raises:
        ImageError: A condition cannot be used, or does not belong to its image; names the file.
    """
    for number in range(0, len(source), -(-len(source) // SOME)):
        try:
            source.pair(number)
        except ImageError as error:
            if error.kind in ("mask", "sketch", "shape", "colours"):
                raise


def first_palette(pairs: Pairs) -> dict[int, tuple[int, ...]]:
    """The colours of the indices in the first mask, if that is a palette PNG: the others must agree with it."""
    try:
        data, titles = pairs.condition(0)
        return palette_in_use(opened(data[0], titles[0], as_stored=True))
    except ImageError:
        return {}


def _batch(pairs: Sequence[tuple[Tensor, Tensor]] | Iterator[tuple[Tensor, Tensor]]) -> Batch:
    images, conditions = zip(*pairs, strict=True)
    return {"image": torch.stack(images), CONDITION_IMAGE: torch.stack(conditions)}
