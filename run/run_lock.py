"""One process tree a run: a second job in the same folder would overwrite what the first writes."""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tenshot.errors import InputError

__all__ = ["RunLock"]

BEATS_EVERY = 60.0
STALE_AFTER = 600.0
"""Seconds without a beat after which a run on another machine counts as dead."""


class RunLock:
    """Hold ``run.lock`` in a run's folder while the block runs; for the first rank.

    The file tells host, process, start and SLURM job; a thread renews its time every minute. It is taken over where its
    owner cannot be alive any more: a process of this machine that is gone; the same SLURM job before it was requeued
    (SLURM runs a job once at a time); or ten minutes without a beat, counted by the clock of the file system. So a run
    whose node died can go on elsewhere: at once if it is requeued, after ten minutes if it is started by hand.

    Args:
        folder: Of the run; made if it is not there.

    Raises:
        InputError: On entering, if another process writes here, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.lock"
        self._done = threading.Event()

    def __enter__(self) -> "RunLock":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self._create():
                self._take_over()
        except OSError as error:
            raise InputError(
                f"{self.path.parent}: cannot be written ({error.strerror or error}): choose another "
                "--trainer.default_root_dir"
            ) from None
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        with suppress(OSError):
            if _owner(self.path) == self.owner:
                self.path.unlink()

    def _create(self) -> bool:
        """Make the file, if it is not there; of several that try, one succeeds."""
        self.owner = {
            "host": socket.gethostname(), "pid": os.getpid(), "process_start": _process_start(os.getpid()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"), "job": os.environ.get("SLURM_JOB_ID"),
            "restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
        }  # fmt: skip
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        with open(descriptor, "w") as file:
            json.dump(self.owner, file)
        return True

    def _take_over(self) -> None:
        """Replace the lock of a dead process.

        Raises:
            InputError: It is alive, as far as can be seen.
        """
        other = _owner(self.path)
        if not self._is_dead(other):
            job = f"job {other['job']}, " if other.get("job") else ""
            raise InputError(
                f"{self.path.parent}: another process writes here ({job}{other.get('host', 'unknown host')}, pid "
                f"{other.get('pid', '?')}, since {other.get('since', '?')}): wait for its end, choose another "
                f"--trainer.default_root_dir or, if you know that it is dead, delete {self.path}"
            )
        aside = self.path.with_name(f".run.lock.{self.owner['host']}.{os.getpid()}")
        with suppress(FileNotFoundError):
            self.path.rename(aside)
        taken = _owner(aside)
        if taken and taken != other:  # somebody else was quicker, and this is the new lock
            aside.rename(self.path)
            raise InputError(f"{self.path.parent}: another process has just begun to write here: wait for its end")
        aside.unlink(missing_ok=True)
        if not self._create():
            raise InputError(f"{self.path.parent}: another process has just begun to write here: wait for its end")

    def _is_dead(self, other: dict[str, Any]) -> bool:
        if other.get("job") and other["job"] == self.owner["job"] and other["restart"] != self.owner["restart"]:
            return True
        if other.get("host") == socket.gethostname():
            return _process_start(int(other["pid"])) != other["process_start"]
        return self._age() > STALE_AFTER

    def _age(self) -> float:
        """Seconds since the last beat, both by the clock of the file system."""
        probe = self.path.with_name(f".run.clock.{socket.gethostname()}.{os.getpid()}")
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        try:
            return now - self.path.stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def _beat(self) -> None:
        while not self._done.wait(BEATS_EVERY):
            with suppress(OSError):
                os.utime(self.path)


def _owner(path: Path) -> dict[str, Any]:
    """What a lock says; nothing, if it is gone or just being written."""
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _process_start(pid: int) -> str | None:
    """When a process of this machine began, which tells it from a later one of the same number; none: it is dead."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self").exists():
            return None
        try:
            os.kill(pid, 0)  # a system without /proc tells only that it exists
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "alive"
    return None if words[0] == "Z" else words[19]
