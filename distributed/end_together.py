"""End a run on all ranks with one message."""

from typing import NoReturn

from lightning.pytorch import Trainer

from tenshot.errors import InputError, SaidError, say

__all__ = ["end_together"]


def end_together(trainer: Trainer, message: str) -> NoReturn:
    """Raise on all ranks, after the first one has printed what is wrong: launchers end the rest once one has ended.

    To be called by all ranks; the message is the first one's.

    Raises:
        InputError: Always.
    """
    if trainer.world_size == 1:
        raise InputError(message)
    message = trainer.strategy.broadcast(message)
    if trainer.is_global_zero:
        say(message)
    trainer.strategy.barrier("all stop together")
    raise SaidError(message)
