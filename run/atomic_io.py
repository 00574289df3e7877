"""Write checkpoints so that a kill or a full disk at any moment leaves the previous one whole."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from tenshot.checkpoints.runs import newest_checkpoint
from tenshot.errors import InputError
from tenshot.models.pretrained import read_checkpoint
from tenshot.models.pretrained.unpickling import Inert
from tenshot.run.host_copy import host_copy

__all__ = [
    "AtomicCheckpointIO",
    "failure_of",
    "joined",
    "note",
    "of_a_write",
    "partial_of",
    "put_in_place",
    "reason",
    "refuse_foreign",
    "removed",
    "reported",
    "written",
]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, flush to disk, then rename: the target is either absent or whole. Read without code.

    One at a time: before the next is written, the one that a thread still writes is waited for. The interpreter waits
    for it before it ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[InputError] | None = None
        """Where failed writes go instead of being raised."""
        self.later: Done | None = None
        """Whom to tell of the next write, which is then done in a thread."""
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Write one checkpoint, or, inside ``reported``, begin to.

        Raises:
            InputError: The disk is full or the folder cannot be written; nothing is left behind.
        """
        self.join()
        target, done, self.later = Path(path), self.later, None
        if done is not None:
            self._thread = threading.Thread(target=self._work, args=(host_copy(checkpoint), target, done))
            self._thread.start()
            return
        failure = _attempt(checkpoint, target)
        if failure is not None:
            note(self, failure)

    def _work(self, content: Mapping[str, Any], target: Path, done: "Done") -> None:
        """In the thread."""
        try:
            done(_attempt(content, target))
        except BaseException as error:
            self._error = error

    def join(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
            BaseException: What went wrong in the thread and was no failed write.
        """
        if self._thread is not None:
            self._thread.join()
        self._thread, error, self._error = None, self._error, None
        if error is not None:
            raise error

    def teardown(self) -> None:
        """Wait for the checkpoint that is being written."""
        self.join()

    def load_checkpoint(
        self, path: _PATH, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one checkpoint, on the CPU; one in parts is put together.

        Args:
            path: The file, or the folder of the parts.
            map_location: Not used.
            weights_only: Not used: nothing in a file is ever run.

        Raises:
            InputError: The file is missing, truncated, holds code, or is no checkpoint of a run.
        """
        content = read_checkpoint(path)
        refuse_foreign(content, path)
        return dict(content)


Done = Callable[[InputError | None], None]
"""Is told how a write ended: with a failure, or with none."""


def _attempt(content: Mapping[str, Any], target: Path) -> InputError | None:
    """Write one checkpoint; what failed, if the write did. Anything else that goes wrong is raised."""
    partial = partial_of(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _delete(partial)  # left by a kill while a checkpoint, perhaps one in parts, was written
        written(content, partial)
        put_in_place(partial, target)
    except BaseException as error:
        with suppress(OSError):  # what is in the way of the folder is in the way of this too
            partial.unlink(missing_ok=True)
        if not of_a_write(error):
            raise
        return failure_of(target, error)
    return None


@contextmanager
def reported(io: CheckpointIO, done: Done, later: bool) -> Iterator[None]:
    """Inside the block a write that fails does not raise; ``done`` is told of it, or that nothing failed.

    Rank 0 writes while the others wait for it: if it raised and went on, they would wait for ever.

    Args:
        io: What writes.
        done: Called once: on rank 0 when the checkpoint is whole, or is not going to be; on other ranks at once.
        later: Write in a thread, from a copy in host memory, so that training goes on: then ``done`` is called there.
            Checkpoints in parts are written at once all the same.
    """
    if not isinstance(io, AtomicCheckpointIO):
        yield
        done(None)
        return
    failures: list[InputError] = []
    io.noted, io.later = failures, done if later else None
    try:
        yield
        begun = later and io.later is None
    finally:
        io.noted = io.later = None
    if not begun:
        done(failures[0] if failures else None)


def joined(io: CheckpointIO) -> None:
    """Wait for the checkpoint that is being written, if there is one."""
    if isinstance(io, AtomicCheckpointIO):
        io.join()


def partial_of(target: Path) -> Path:
    """Where a checkpoint is written before it is whole."""
    return target.with_name(f".{target.name}.partial")


def written(content: Mapping[str, Any], path: Path) -> None:
    """Write a file and flush it to disk."""
    with open(path, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def put_in_place(partial: Path, target: Path) -> None:
    """Give what is whole on the disk, a file or a folder, its name."""
    if partial.is_dir():
        _sync_folder(partial)
    if target.exists() and (partial.is_dir() or target.is_dir()):  # only a file takes the place of a file at once
        _set_aside(target)
    os.replace(partial, target)
    _sync_folder(target.parent)
    _delete(_aside(target))


def removed(path: Path) -> None:
    """Delete a checkpoint, a file or a folder, if it is there; a kill leaves nothing that looks like one."""
    if path.exists():
        _set_aside(path)
    _delete(_aside(path))


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _set_aside(path: Path) -> None:
    _delete(_aside(path))
    os.replace(path, _aside(path))


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def failure_of(target: Path, error: BaseException) -> InputError:
    """What to say of a checkpoint that could not be written."""
    previous = newest_checkpoint(target.parent.parent)
    kept = f"the last whole checkpoint is {previous}" if previous else "there is no earlier checkpoint"
    go_on = f"resume with --ckpt_path {target.parent.parent}" if previous else "start anew"
    return InputError(
        f"{target}: could not be written ({reason(error)}); {kept}: free space or choose another folder, then {go_on}"
    )


def note(io: CheckpointIO, failure: InputError) -> None:
    """Note a failed write, inside ``reported``.

    Raises:
        InputError: Outside of it.
    """
    if not isinstance(io, AtomicCheckpointIO) or io.noted is None:
        raise failure
    io.noted.append(failure)


RESTORED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "ema", "tenshot")


def _holds_inert(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_inert(inner) for inner in value.values())
    return isinstance(value, Inert) or (isinstance(value, list | tuple) and any(map(_holds_inert, value)))


def refuse_foreign(content: Mapping[str, Any], path: _PATH) -> None:
    """Make sure that a file is of a run.

    Raises:
        InputError: It is not.
    """
    if "pytorch-lightning_version" not in content:
        raise InputError(f"{path}: not a checkpoint of a run: start from such weights with --model.init_from")
    for name in RESTORED:
        if _holds_inert(content.get(name)):
            raise InputError(
                f"{path}: its {name} hold an object of a class that is not read, and nothing of it was run: start from "
                "its weights with --model.init_from"
            )


def of_a_write(error: BaseException) -> bool:
    """Whether what went wrong is a file: torch reports that as a RuntimeError, raised from the OSError or handling it.

    Any other RuntimeError is not, such as a device that is out of memory.
    """
    return isinstance(error, OSError) or (isinstance(error, RuntimeError) and _system_error(error) is not None)


def reason(error: BaseException) -> str:
    """The operating system's word for a failed write."""
    cause = _system_error(error)
    return cause.strerror if cause is not None and cause.strerror else str(error).splitlines()[0]


def _system_error(error: BaseException) -> OSError | None:
    """The operating system's error behind one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
