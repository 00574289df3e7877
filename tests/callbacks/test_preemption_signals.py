"""What a signal does in a process that has nothing to save yet."""

import os
import signal
from types import SimpleNamespace

import pytest

from tenshot.callbacks import Preemption


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Preemption:
    """A callback that a signal may reach, in a process that may not end."""

    monkeypatch.setattr(os, "_exit", lambda status: pytest.fail(f"left with {status}"))
    preemption = Preemption()
    preemption._process = os.getpid()
    return preemption


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_another_signal_after_ctrl_c_still_saves(listening: Preemption, second: signal.Signals):
    for number in (signal.SIGINT, second):
        listening._note(number, None)
        assert listening._signal == number


@pytest.mark.parametrize("first", [True, False])
def test_the_first_rank_alone_says_so(listening: Preemption, capfd: pytest.CaptureFixture[str], first: bool):
    listening._trainer = SimpleNamespace(is_global_zero=first)  # type: ignore[assignment]
    listening._note(signal.SIGINT, None)
    assert ("tenshot: stopping once this step is done and saved" in capfd.readouterr().err) == first


def test_a_process_that_prepares_batches_takes_no_signal(listening: Preemption):
    listening._process += 1
    listening._note(signal.SIGTERM, None)
    assert listening._signal is None


def test_what_is_written_to_a_terminal_that_is_gone_vanishes(listening: Preemption):
    """On SIGHUP alone; a stream that can still be written stays."""
    before, (terminal, gone) = os.dup(2), os.openpty()
    os.close(terminal)
    try:
        os.dup2(gone, 2)
        listening._note(signal.SIGTERM, None)
        with pytest.raises(OSError, match="Input/output error"):
            os.write(2, b"x")
        listening._note(signal.SIGHUP, None)
        assert os.write(2, b"x") == 1
        assert os.path.samestat(os.fstat(2), os.stat(os.devnull))
        assert not os.path.samestat(os.fstat(1), os.stat(os.devnull))
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(gone)
