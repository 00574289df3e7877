"""Attempts at a run: forks of a process that has imported everything, and what they leave in the run's folder."""

import csv
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import tenshot.cli.app  # noqa: F401 - before the forks, not in each
from tenshot.checkpoints.runs import checkpoint_path, newest_checkpoint
from tenshot.cli import main as command_line

__all__ = ["Broken", "assert_alike", "begin", "lines", "log_of", "partials", "rows", "saved_step", "stamp_of", "wait"]

PAUSE, LOOKS = 0.0005, 240_000
"""Seconds between two looks at an attempt, and after how many it is given up: at least two minutes, in which this
process was not itself stopped."""
PARTS = ("state_dict", "ema", "optimizer_states", "lr_schedulers", "global_step")


class Broken(Exception):
    """Something that must not happen, in a line."""


def begin(argv: Sequence[str], output: Path) -> int:
    """Fork a process that runs ``tenshot`` with these arguments; its id. Its output goes to a file."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with open(output, "a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        command_line(list(argv))
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(pid: int, until: Callable[[], bool] = lambda: False) -> int | None:
    """Wait for a moment in an attempt, by default its end: its exit status, or minus the signal it died of.

    Returns:
        None where the moment came first.

    Raises:
        Broken: Neither came.
    """
    for _ in range(LOOKS):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if until():
            return None
        time.sleep(PAUSE)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise Broken(f"still alive after {LOOKS * PAUSE:.0f} seconds")


def log_of(run: Path) -> Path:
    """The file."""
    return run / "logs" / "version_0" / "metrics.csv"


def rows(run: Path) -> list[dict[str, str]]:
    """The log without speeds, which differ between attempts; a row that was torn is left out."""
    path = log_of(run)
    text = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [{k: v for k, v in row.items() if not k.startswith("speed/")} for row in csv.DictReader(text.splitlines())]


def stamp_of(run: Path) -> int:
    """When the log was last written to, in nanoseconds; 0: never."""
    return log_of(run).stat().st_mtime_ns if log_of(run).exists() else 0


def lines(run: Path) -> int:
    """Of the log."""
    return log_of(run).read_bytes().count(b"\n")


def partials(run: Path) -> set[tuple[str, int]]:
    """Checkpoints that are being written, or whose writing was cut off: name and time."""
    found = set()
    for path in (run / "checkpoints").glob(".*.partial"):
        try:
            found.add((path.name, path.stat().st_mtime_ns))
        except FileNotFoundError:  # written meanwhile
            continue
    return found


def saved_step(run: Path) -> int:
    """Of the newest whole checkpoint; 0 without one."""
    newest = newest_checkpoint(run)
    return int(newest.stem.removeprefix("step=")) if newest else 0


def assert_alike(run: Path, whole: Path, steps: int) -> None:
    """Two finished runs are the same to the last bit: weights, averages, optimisers, log and grids.

    Raises:
        Broken: They are not.
    """
    ours, theirs = (torch.load(checkpoint_path(folder, steps), weights_only=True) for folder in (run, whole))
    for part in PARTS:
        if not same(ours[part], theirs[part]):
            raise Broken(f"{part} is not that of the run that was left alone")
    logged = [row["step"] for row in rows(run)]
    if logged != [str(step) for step in range(steps)]:
        raise Broken(f"the steps in the log are {logged}")
    if rows(run) != rows(whole):
        raise Broken("the log is not that of the run that was left alone")
    ours, theirs = ({path.name: path.read_bytes() for path in (f / "samples").glob("*.png")} for f in (run, whole))
    if ours != theirs or not theirs:
        raise Broken(f"the sample grids are {sorted(ours)}, or of other images")


def same(a: Any, b: Any) -> bool:
    """Equal all the way down."""
    if isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in b)
    if isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
