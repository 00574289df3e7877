"""What a trainer has and its class does not declare, since Lightning sets it from outside: typed, in one place."""

from typing import Any, TypeVar, cast

from lightning.pytorch import Callback, Trainer

__all__ = ["callback_of", "is_trial"]

C = TypeVar("C", bound=Callback)


def callback_of(trainer: Trainer, kind: type[C]) -> C | None:
    """The first callback of a kind, if there is one."""
    return next((callback for callback in cast(Any, trainer).callbacks if isinstance(callback, kind)), None)


def is_trial(trainer: Trainer) -> bool:
    """Whether it runs a few batches (``--trainer.fast_dev_run``), of which nothing is to be kept."""
    return bool(cast(Any, trainer).fast_dev_run)
