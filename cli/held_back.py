"""Requests to leave that come too early, while the libraries are imported or the data are read, are kept for later."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["signals_held_back"]


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Keep SIGUSR1 and SIGTERM waiting until the run listens to them (callbacks/preemption.py), or ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
