"""Images of a large set that cannot be used: each is said once, and too many stop the run."""

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from torch.utils.data import get_worker_info

from tenshot.datamodules.reading import ImageError
from tenshot.errors import InputError

__all__ = ["Refusals", "Substitutes"]

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_DRAWN = 1000  # images in place of one
SPARE = 0x5BA2E  # keeps these draws apart from those of the order


class Refusals:
    """Counts the images that another one took the place of, by rank.

    In a worker process they are only gathered, for the batch to take them along to the main process, which counts.

    Args:
        limit: How many there may be.
        option: That sets the limit, named in the error.
    """

    def __init__(self, limit: int, option: str) -> None:
        self.limit, self.option = limit, option
        self.stop: Callable[[InputError], None] = _raise
        """What happens once there are too many; replaced where a run can save itself first."""
        self._said: set[str] = set()
        self._gathered: list[ImageError] = []

    def add(self, refused: ImageError) -> None:
        """Say and count an image, unless it has been; calls ``stop`` for the first one beyond the limit."""
        if get_worker_info() is not None:
            self._gathered.append(refused)
            return
        if str(refused) in self._said:
            return
        self._said.add(str(refused))
        count = len(self._said)
        if count <= self.limit:
            log.warning("%s; another image takes its place (%d of at most %d)", refused, count, self.limit)
        elif count == self.limit + 1:
            also = f"{self.limit} others cannot be used either, {self.option} is {self.limit}" if self.limit else ""
            self.stop(InputError(f"{refused}{also and f' ({also})'}"))

    def __reduce__(self) -> tuple[type["Refusals"], tuple[int, str]]:
        return Refusals, (self.limit, self.option)  # a worker process stops nothing

    def gathered(self) -> list[ImageError]:
        """What this worker process has met since it was last asked."""
        taken, self._gathered = self._gathered, []
        return taken


class Substitutes:
    """Puts another image in the place of one that cannot be used.

    It is drawn from the number of the first alone, so it is the same one on every rank and in a resumed run.

    Args:
        count: How many images there are.
        refusals: Counts those that cannot be used. None: the first one is an error.
    """

    def __init__(self, count: int, refusals: Refusals | None) -> None:
        self.count = count
        self.refusals = refusals
        self._refused: dict[int, ImageError] = {}

    def usable(self, index: int, load: Callable[[int], T]) -> T:
        """What ``load`` makes of this number, or of the first in its place for which it raises no ImageError.

        Raises:
            InputError: there is none, or none is to be looked for.
        """
        for number in self._candidates(index):
            if number in self._refused:
                continue
            try:
                return load(number)
            except ImageError as error:
                if self.refusals is None:
                    raise
                self._refused[number] = error
                self.refusals.add(error)
        first = next(iter(self._refused.values()))
        raise InputError(f"{first}; nor can any of {MOST_DRAWN} others drawn in place of one")

    def _candidates(self, index: int) -> Iterator[int]:
        """The number, then others: uniform, and a function of the number alone."""
        yield index
        yield from map(int, np.random.default_rng((SPARE, index)).integers(self.count, size=MOST_DRAWN))


def _raise(error: InputError) -> None:
    raise error
