"""Images of a large set that cannot be used: each is said once, and too many stop the run."""

import logging
from collections.abc import Callable

from torch.utils.data import get_worker_info

from tenshot.datamodules.reading import ImageError
from tenshot.errors import InputError

__all__ = ["Refusals"]

log = logging.getLogger(__name__)


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


def _raise(error: InputError) -> None:
    raise error
