"""Files that training can do without: one that cannot be written is said once, and the run goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities import rank_zero_info

from tenshot.errors import InputError

__all__ = ["best_effort"]

_failing: set[str] = set()


@contextmanager
def best_effort(kind: str) -> Iterator[None]:
    """Say in one line when writing files of a kind begins to fail; silent until one was written again.

    Args:
        kind: What fails together, such as one folder.
    """
    try:
        yield
    except (InputError, OSError) as error:
        if kind not in _failing:
            rank_zero_info(f"training goes on without: {error}")
        _failing.add(kind)
    else:
        _failing.discard(kind)
