"""A training loop that asks for its batches, run some iterations at a time."""

from collections.abc import Callable, Iterator
from queue import Queue
from threading import Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class Pulled(Generic[T]):
    """A loop in a thread that waits whenever it wants a batch more than it was granted.

    So loops that cannot be called step by step are measured as they are. One that fetches a batch ahead is an iteration
    behind what it was granted, which makes no difference between the first and the last.

    Args:
        loop: Is given an endless iterator of batches.
        make_batch: Makes one.
    """

    def __init__(self, loop: Callable[[Iterator[T]], object], make_batch: Callable[[], T]) -> None:
        self._loop, self._make_batch = loop, make_batch
        self._granted: Queue[None] = Queue()
        self._asked: Queue[BaseException | None] = Queue()
        Thread(target=self._run, daemon=True).start()
        self._wait()

    def run(self, iterations: int) -> None:
        """Let the loop have so many batches more, until it asks for another one."""
        for _ in range(iterations):
            self._granted.put(None)
            self._wait()

    def _batches(self) -> Iterator[T]:
        while True:
            self._asked.put(None)
            self._granted.get()
            yield self._make_batch()

    def _run(self) -> None:
        try:
            self._loop(self._batches())
            raise RuntimeError("the loop ended")
        except BaseException as error:  # it belongs into the thread that waits
            self._asked.put(error)

    def _wait(self) -> None:
        error = self._asked.get()
        if error is not None:
            raise error
