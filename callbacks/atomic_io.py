"""Write checkpoints so that a kill or a full disk at any moment leaves the previous one whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from tenshot.errors import InputError
from tenshot.lightning_modules.runs import newest_checkpoint
from tenshot.models.pretrained import read_checkpoint

__all__ = ["AtomicCheckpointIO", "failures_noted"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, flush to disk, then rename: the target is either absent or whole. Read without code."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[InputError] | None = None
        """Where failed writes go instead of being raised."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Write one checkpoint.

        Raises:
            InputError: The disk is full or the folder cannot be written; nothing is left behind.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
            _sync_folder(target.parent)
        except (OSError, RuntimeError) as error:
            # torch reports a failed write as a RuntimeError, raised from the OSError or while handling it
            with suppress(OSError):  # what is in the way of the folder is in the way of this too
                partial.unlink(missing_ok=True)
            previous = newest_checkpoint(target.parent.parent)
            kept = f"the last whole checkpoint is {previous}" if previous else "there is no earlier checkpoint"
            failure = InputError(
                f"{target}: could not be written ({_reason(error)}); {kept}: free space or choose another folder, then "
                "resume with --ckpt_path last"
            )
            if self.noted is None:
                raise failure from None
            self.noted.append(failure)

    def load_checkpoint(
        self, path: _PATH, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one checkpoint, on the CPU.

        Args:
            path: The file.
            map_location: Not used.
            weights_only: False also reads files that may run code of their author.

        Raises:
            InputError: The file is missing, truncated, holds code, or is no checkpoint of a run.
        """
        content = read_checkpoint(path, allow_pickle=weights_only is False)
        if "pytorch-lightning_version" not in content:
            raise InputError(f"{path}: not a checkpoint of a run: start from such weights with --model.init_from")
        return content


@contextmanager
def failures_noted(io: CheckpointIO) -> Iterator[list[InputError]]:
    """Inside the block a write that fails does not raise but goes to the list.

    Rank 0 writes while the others wait for it: if it raised and went on, they would wait for ever.
    """
    failures: list[InputError] = []
    if not isinstance(io, AtomicCheckpointIO):
        yield failures
        return
    io.noted = failures
    try:
        yield failures
    finally:
        io.noted = None


def _reason(error: BaseException) -> str:
    """The operating system's word for a failed write."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).splitlines()[0]


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
