"""How the command of docs/evidence.md works: side by side, locked, and on from where it was stopped."""

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))

from scripts.evidence import work
from scripts.evidence.plan import Task
from scripts.evidence.sets import SETS


@dataclass(frozen=True)
class Pretended:
    """A run of commands that append a letter to a file, then make what they are to make."""

    title: str
    folder: Path
    needs: Path | None = None
    words: tuple[str, ...] = ("train", "last")
    of: object = field(default=SETS["faces"])

    def tasks(self) -> list[Task]:
        return [Task(word, [str(self.folder), word], f"{word}.done", 1.0) for word in self.words]

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().split() if file.exists() else []


PRETENDED = """
import pathlib, sys, time
folder, word = pathlib.Path(sys.argv[1]), sys.argv[2]
with open(folder / "calls", "a") as file:
    file.write(word + "\\n")
if word == "bad":
    sys.exit("no luck")
if word != "idle":
    (folder / f"{word}.done").touch()
"""


def pretend(
    monkeypatch: pytest.MonkeyPatch, *pretended: Pretended, jobs: int = 2, program: str = PRETENDED
) -> work.Outcome:
    monkeypatch.setattr(work, "PROGRAM", program)
    return work.Workers(pretended, jobs).work()  # type: ignore[arg-type]


def test_what_is_finished_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = Pretended("a", tmp_path / "a")
    assert pretend(monkeypatch, run).finished == ["a"]
    (run.folder / "last.done").unlink()
    assert pretend(monkeypatch, run).finished == ["a"]
    assert run.calls == ["train", "last", "last"]
    assert [line.split(",")[0] for line in (run.folder / "seconds.csv").read_text().split()] == run.calls


def test_a_failure_is_told_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bad = Pretended("bad", tmp_path / "bad", words=("bad", "last"))
    idle = Pretended("idle", tmp_path / "idle", words=("idle", "last"))
    outcome = pretend(monkeypatch, bad, idle, Pretended("good", tmp_path / "good"), jobs=1)
    assert outcome.finished == ["good"]
    assert set(outcome.failed) == {"bad", "idle"}  # also what ended well but left nothing
    assert "no luck" in outcome.failed["bad"]
    assert (bad.calls, idle.calls) == (["bad"], ["idle"])


def test_runs_wait_for_their_source_and_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = Pretended("source", tmp_path / "source", words=("train",))
    child = Pretended("child", tmp_path / "child", needs=source.folder / "train.done")
    other = Pretended("other", tmp_path / "other")
    assert pretend(monkeypatch, child, other, source, jobs=1).finished == ["other", "source", "child"]
    orphan = Pretended("orphan", tmp_path / "orphan", needs=tmp_path / "nowhere")
    outcome = pretend(monkeypatch, orphan)
    assert "nowhere" in outcome.failed["orphan"]
    assert orphan.calls == []


def test_two_do_not_work_on_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run, other = Pretended("a", tmp_path / "a"), Pretended("b", tmp_path / "b")
    with work.held(run.folder / "work.lock") as lock:
        assert lock is not None
        outcome = pretend(monkeypatch, run, other)
    assert (outcome.elsewhere, outcome.finished, run.calls) == (["a"], ["b"], [])
    assert pretend(monkeypatch, run).finished == ["a"]


SLOW = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit((folder / "saved").touch() or 85))
(folder / "partial").write_text(str(os.getpid()))
(folder / "partial").rename(folder / "begun")
time.sleep(60)
"""


def test_a_stop_reaches_what_runs_and_a_killed_command_leaves_its_run_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    run = Pretended("a", tmp_path / "a")
    begun = run.folder / "begun"

    def started() -> ForkProcess:
        process = get_context("fork").Process(target=pretend, args=(monkeypatch, run), kwargs={"program": SLOW})
        process.start()
        while not begun.exists():
            assert process.is_alive()
            time.sleep(0.01)
        return process

    first = started()
    first.terminate()
    first.join()
    assert first.exitcode == 130
    assert "the same command goes on" in capfd.readouterr().out
    assert (run.folder / "saved").exists()
    begun.unlink()
    second = started()
    second.kill()
    second.join()
    assert pretend(monkeypatch, run).elsewhere == ["a"]  # its child lives on, and holds the lock
    os.kill(int(begun.read_text()), signal.SIGKILL)
    with work.held(run.folder / "work.lock", wait=True):
        pass
    assert pretend(monkeypatch, run).finished == ["a"]
