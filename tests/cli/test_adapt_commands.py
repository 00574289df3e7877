"""A command of ``tenshot adapt`` is a process of its own: it answers signals, and how it ended is how adapt ends."""

import signal
import sys
from pathlib import Path

import pytest

from tenshot.cli.adapt import commands
from tenshot.errors import InputError


def script(folder: Path, text: str) -> str:
    path = folder / "script"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_command_is_a_process_of_its_own(capfd: pytest.CaptureFixture[str]):
    commands.run(["--version"])
    assert capfd.readouterr().out.startswith("tenshot ")
    with pytest.raises(SystemExit) as end:
        commands.run(["fitt"])
    assert end.value.code == 1


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("trap 'exit 85' TERM; kill -TERM $PPID; for n in 1 2 3 4 5 6 7 8 9; do sleep 0.3; done; exit 3", 85),
        ("trap 'exit 129' HUP; kill -HUP $PPID; for n in 1 2 3 4 5 6 7 8 9; do sleep 0.3; done; exit 3", 129),
        ("sleep 0.5; kill -INT $PPID; sleep 0.2; exit 130", 130),
    ],
)
def test_it_answers_signals_and_its_status_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], text: str, status: int
):
    monkeypatch.setattr(sys, "executable", script(tmp_path, f"sleep 0.3; {text}"))
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a shell cannot trap what nohup ignored before it
    try:
        with pytest.raises(SystemExit) as end:
            commands.run(["fit"])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert end.value.code == status
    assert capfd.readouterr().err == "tenshot: the same tenshot adapt command goes on\n"


def test_one_that_is_killed_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", script(tmp_path, "kill -KILL $$"))
    with pytest.raises(InputError, match=r"tenshot fit was killed \(SIGKILL\), perhaps for want of memory"):
        commands.run(["fit"])
