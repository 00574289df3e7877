"""Ctrl-C outside of training steps: one line, the shell's exit status."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import tiny

from tenshot.cli import Interrupted, interrupts_end_in_a_line, signals_held_back

CLUSTERS = (signal.SIGUSR1, signal.SIGTERM)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("fit", "no step is lost; go on with --ckpt_path"),
        ("predict", "the images that are drawn stay, the same command draws the others"),
        ("test", "nothing is written"),
    ],
)
def test_an_interrupted_command_ends_in_one_line(
    tenshot: tiny.Run, monkeypatch: pytest.MonkeyPatch, command: str, told: str
):
    def interrupted(words: list[str]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not interrupted")

    monkeypatch.setattr("tenshot.cli._run", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    outcome = tenshot(command)
    assert outcome.status == 130
    assert outcome.err.startswith("tenshot: interrupted, ")
    assert told in outcome.err
    assert outcome.err.count("\n") == 1
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler

    monkeypatch.setenv("LOCAL_RANK", "1")
    assert tenshot(command).err == ""
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def handler() -> Iterator[None]:
    """Python's own, as where tests are not started by nohup."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Left(BaseException):
    """In place of the end of this process."""


def test_who_asks_twice_does_not_wait_for_cleaning_up(handler: None, monkeypatch: pytest.MonkeyPatch):
    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setattr(os, "_exit", leave)

    def interrupted_twice() -> None:
        with interrupts_end_in_a_line("predict"):
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except Interrupted:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Left, match="130"):
        interrupted_twice()


def test_a_worker_leaves_the_last_word_to_the_process_that_started_it(handler: None, capfd: Any):
    with interrupts_end_in_a_line("prepare"):
        worker = os.fork()
        if worker == 0:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 130
    assert capfd.readouterr().err == ""


def test_what_is_ignored_stays_so(handler: None):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_end_in_a_line("fit"):
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_in_another_thread_signals_are_left_alone(handler: None):
    seen: list[object] = []

    def run() -> None:
        with interrupts_end_in_a_line("fit"):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_signals_of_clusters_are_held_back_until_the_block_ends():
    arrived: list[int] = []
    before = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in CLUSTERS}
    try:
        with signals_held_back():
            for number in CLUSTERS:
                signal.raise_signal(number)  # to this thread: those of earlier tests would take what is for the process
            assert not arrived
        assert sorted(arrived) == sorted(CLUSTERS)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
