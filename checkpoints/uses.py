"""Which checkpoints of a run others depend on: a note beside each, so that it is not deleted as an old one."""

from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn

__all__ = ["is_used", "kept_if_used", "note_path", "note_use", "used_in_training"]


def note_path(checkpoint: Path) -> Path:
    """The note beside a checkpoint: a line for each run that recorded it."""
    return checkpoint.with_name(f"{checkpoint.name}.used_by.txt")


def note_use(checkpoint: Path, user: Path) -> None:
    """Note that a run recorded this checkpoint, where it lies among those of a run; where one may write there.

    Args:
        checkpoint: What the run depends on.
        user: The folder of the run.
    """
    if checkpoint.parent.name != "checkpoints":
        return
    note, line = note_path(checkpoint), f"{user.resolve()}\n"
    with suppress(OSError):
        if not note.exists() or line not in note.read_text():
            with open(note, "a") as file:
                file.write(line)


def used_in_training(path: str, module: LightningModule) -> None:
    """Note that the run that is about to train a method, if there is one, depends on a checkpoint.

    Args:
        path: What the method was built from: its first weights, its source, the classifier that guides it.
        module: The method.
    """
    trainer = module._trainer
    if trainer is None or trainer.state.fn != TrainerFn.FITTING or cast(Any, trainer).fast_dev_run:
        return
    if trainer.is_global_zero:
        note_use(Path(path).resolve(), Path(trainer.default_root_dir))


def is_used(checkpoint: Path) -> bool:
    """Whether a run recorded it."""
    return note_path(checkpoint).exists()


def kept_if_used(checkpoint: Path) -> None:
    """Before a checkpoint of that name is written: give one that a run recorded another name, beside it."""
    if not (checkpoint.exists() and is_used(checkpoint)):
        return
    number = 1
    while (kept := checkpoint.with_name(f"{checkpoint.stem}.used-{number}.ckpt")).exists():
        number += 1
    checkpoint.rename(kept)
    note_path(checkpoint).rename(note_path(kept))
