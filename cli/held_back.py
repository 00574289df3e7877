"""Requests to leave outside of training: those that come too early are kept for later, Ctrl-C ends in one line."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "interrupts_end_in_a_line", "signals_held_back"]

SHELLS = 130  # exit status of a process that Ctrl-C ended
RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")

AFTERWARDS = {
    "fit": "outside of its training steps: no step is lost; go on with --ckpt_path and the folder of the run",
    "predict": "the images that are drawn stay, the same command draws the others",
    "prepare": "what is written stays, the same command goes on",
}


class Interrupted(SystemExit):
    """Ctrl-C outside of training steps; not KeyboardInterrupt, which Lightning would turn into exit status 1."""

    def __init__(self) -> None:
        super().__init__(SHELLS)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Keep SIGUSR1 and SIGTERM waiting until the run listens to them (callbacks/preemption.py), or ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_end_in_a_line(command: str) -> Iterator[None]:
    """Let Ctrl-C end the command with one line and exit status 130, where it would raise KeyboardInterrupt.

    Raises:
        Interrupted: On Ctrl-C.
    """
    process = os.getpid()

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker: what it did is left to the process that started it
            os._exit(SHELLS)
        signal.signal(signal.SIGINT, lambda *_: os._exit(SHELLS))  # who asks twice does not wait for cleaning up
        raise Interrupted

    before = signal.getsignal(signal.SIGINT)
    if before != signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    except Interrupted:
        if all(os.environ.get(rank, "0") == "0" for rank in RANKS):
            after = AFTERWARDS.get(command, "nothing is written")
            print(f"tenshot: interrupted, {after}", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGINT, before)
