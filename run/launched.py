"""The processes that Lightning starts for the other ranks of a machine: none outlives the first one."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

__all__ = ["end_with_launcher", "kill_launched", "none_left_behind", "stop_observing"]

LAUNCHER = "TENSHOT_LAUNCHER"
"""Environment variable: the process that started this one."""
AFTER_ERROR, AFTER_SUCCESS = 5.0, 60.0
"""Seconds that the others have to end by themselves."""
LOOKS_EVERY = 1.0


def _launched(trainer: Trainer) -> list[subprocess.Popen]:
    launcher = trainer.strategy.launcher
    return launcher.procs if isinstance(launcher, _SubprocessScriptLauncher) else []


def kill_launched(trainer: Trainer) -> None:
    """End the other processes at once."""
    for process in _launched(trainer):
        process.send_signal(signal.SIGKILL)


def stop_observing() -> None:
    """Keep Lightning from killing this process in the middle of its last words because another one has ended before."""
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            thread._child_processes = []


@contextmanager
def none_left_behind(trainer: Trainer) -> Iterator[None]:
    """When the block ends, so do the processes that the trainer has started: by themselves, or killed.

    They look for this process themselves, too, should it be killed: see ``end_with_launcher``.
    """
    before = os.environ.get(LAUNCHER)
    os.environ[LAUNCHER] = str(os.getpid())
    patience = AFTER_ERROR
    try:
        yield
        patience = AFTER_SUCCESS
    finally:
        stop_observing()
        end = time.monotonic() + patience
        for process in _launched(trainer):
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
        kill_launched(trainer)
        os.environ.pop(LAUNCHER)
        if before is not None:
            os.environ[LAUNCHER] = before


def end_with_launcher() -> None:
    """In a process that another one of ours started: end soon after that one is gone, whatever this one waits for."""
    parent = os.getppid()
    if os.environ.get(LAUNCHER) != str(parent) or os.environ.get("LOCAL_RANK", "0") == "0":
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOKS_EVERY)
        time.sleep(AFTER_ERROR)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
