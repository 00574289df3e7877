"""Which checkpoints of a run others depend on: a note beside each, so that it is not deleted as an old one."""

from contextlib import suppress
from pathlib import Path

__all__ = ["is_used", "kept_if_used", "note_path", "note_use"]


def note_path(checkpoint: Path) -> Path:
    """The note beside a checkpoint: a line for each run that recorded it."""
    return checkpoint.with_name(f"{checkpoint.name}.used_by.txt")


def note_use(checkpoint: Path, user: Path) -> None:
    """Note that a run recorded this checkpoint, where it lies among those of a run; where one may write there.

    Args:
        checkpoint: The source of an adaptation.
        user: The folder of the adaptation.
    """
    if checkpoint.parent.name != "checkpoints":
        return
    note, line = note_path(checkpoint), f"{user.resolve()}\n"
    with suppress(OSError):
        if not note.exists() or line not in note.read_text():
            with open(note, "a") as file:
                file.write(line)


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
