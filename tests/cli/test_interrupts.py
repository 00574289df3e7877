"""Ctrl-C outside of training steps: one line, the shell's exit status."""

import os
import signal

import pytest
import tiny


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
