"""Rows: one JSON line for whatever was found, on disk at once; and what a stage is given to find it with."""

import gc
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Values = dict[str, Any]

CHECKOUT = Path(__file__).resolve().parents[2]
FRAMES = 3
"""Last frames of ours of a traceback that a row keeps."""
LONGEST = 1500
"""Characters of an error's message that a row keeps."""


def plain(value: Any) -> Any:
    """The value as JSON has it: tensors as numbers or lists, numbers that are not finite as words."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def append(path: Path, row: Values) -> None:
    """One line more, in one write, on disk when this returns; several processes may append to one file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(plain(row)) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def described(error: BaseException) -> Values:
    """Type, message and cause of an error; the last frames of it in this checkout, and the very last."""
    every = traceback.extract_tb(error.__traceback__)
    kept = [frame for frame in every if CHECKOUT in Path(frame.filename).parents][-FRAMES:]
    kept += [frame for frame in every[-1:] if frame not in kept]
    where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}: {frame.line}" for frame in kept]
    cause = error.__cause__ or error.__context__
    because = {"cause": f"{type(cause).__name__}: {cause}"[:LONGEST]} if cause is not None else {}
    return {"error": type(error).__name__, "message": str(error)[:LONGEST], **because, "at": where}


@dataclass(frozen=True)
class Context:
    """What a stage is given.

    Args:
        rows: The file of rows.
        folder: Scratch that is deleted at the end.
        device: What is measured or checked.
        dry: Everything tiny, on the CPU, to see that it runs.
        deadline: ``time.time()`` at which the budget is spent.
    """

    rows: Path
    folder: Path
    device: Any
    dry: bool
    deadline: float

    def seconds_left(self) -> float:
        """Until the budget is spent."""
        return self.deadline - time.time()

    def row(self, stage: str, name: str, status: str = "ok", **values: Any) -> None:
        """Write a row.

        Args:
            stage: The stage's name.
            name: What was found, unique in the stage.
            status: ``ok``, ``failed`` or ``dropped``.
            values: What there is to say of it.
        """
        append(self.rows, {"stage": stage, "name": name, "status": status, **values})

    @contextmanager
    def check(self, stage: str, name: str) -> Iterator[Values]:
        """One check that stands alone: an error within is a row, and the next statement is reached.

        Yields the values of the row, to be filled in; they are written with the error too.
        """
        values: Values = {}
        start = time.perf_counter()
        try:
            yield values
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            values.update(described(error))
            traceback.clear_frames(error.__traceback__)  # or they hold the memory of what failed
            self.row(stage, name, "failed", **values, seconds=time.perf_counter() - start)
            release()
        else:
            self.row(stage, name, **values, seconds=time.perf_counter() - start)

    def run(self, stage: str, name: str, function: Callable[[], Values | None]) -> Values | None:
        """``check`` of a function that returns the row's values; None if it failed."""
        with self.check(stage, name) as values:
            values.update(function() or {})
            return values
        return None


def release() -> None:
    """Give back the GPU's memory that nothing refers to."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        try:
            torch.cuda.empty_cache()
        except RuntimeError:  # after an illegal access everything fails: the rows that follow say so
            traceback.print_exc()
