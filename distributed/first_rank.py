"""What the first rank finds out for all."""

from collections.abc import Callable
from typing import TypeVar

from lightning.pytorch import Trainer

from tenshot.errors import InputError, SaidError

__all__ = ["of_first_rank"]

T = TypeVar("T")


def of_first_rank(trainer: Trainer, find: Callable[[], T]) -> T:
    """The result of a function that the first rank alone calls. To be called on all ranks.

    Raises:
        InputError: What the function raised there, for the first rank.
        SaidError: The same for the others, which need not say it again.
    """
    found: T | InputError | None = None
    if trainer.is_global_zero:
        try:
            found = find()
        except InputError as error:
            found = error
    found = trainer.strategy.broadcast(found)
    if isinstance(found, InputError):
        raise found if trainer.is_global_zero else SaidError(str(found))
    return found  # type: ignore[return-value]
