import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tenshot.errors import InputError
from tenshot.run import RunLock, run_lock


@pytest.fixture(autouse=True)
def _no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def left_behind(folder: Path, **changes: Any) -> Path:
    """The lock of a process that did not remove it."""
    lock = RunLock(folder)
    with lock:
        content = json.loads(lock.path.read_text())
    lock.path.write_text(json.dumps(content | changes))
    return lock.path


def test_a_second_process_is_refused_in_one_line(tmp_path: Path):
    folder = tmp_path / "run"
    with RunLock(folder), pytest.raises(InputError) as raised, RunLock(folder):
        pass
    message = str(raised.value)
    assert "\n" not in message
    for part in (str(folder), f"pid {os.getpid()}", os.uname().nodename, "--trainer.default_root_dir", "run.lock"):
        assert part in message


def test_it_is_let_go_at_the_end_and_after_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="oops"), RunLock(tmp_path):
        raise ValueError("oops")
    with RunLock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    left_behind(tmp_path, pid=gone.pid)
    with RunLock(tmp_path):
        pass


def test_a_later_process_with_the_same_number_is_not_the_owner(tmp_path: Path):
    left_behind(tmp_path, pid=os.getpid(), process_start="1")
    with RunLock(tmp_path):
        pass


def test_another_machine_holds_it_while_it_beats(tmp_path: Path):
    path = left_behind(tmp_path, host="elsewhere")
    with pytest.raises(InputError, match="elsewhere"), RunLock(tmp_path):
        pass
    before = path.stat().st_mtime
    os.utime(path, (before - run_lock.STALE_AFTER - 5,) * 2)
    with RunLock(tmp_path):
        assert json.loads(path.read_text())["host"] != "elsewhere"


def test_the_owner_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_lock, "BEATS_EVERY", 0.01)
    renewed = threading.Event()
    monkeypatch.setattr(os, "utime", lambda path: renewed.set())
    with RunLock(tmp_path):
        assert renewed.wait(20)


@pytest.mark.parametrize(("restart", "goes_on"), [("0", False), ("1", True)])
def test_a_requeued_job_takes_its_own_lock_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: str, goes_on: bool
):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    left_behind(tmp_path, host="elsewhere")
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
    if goes_on:
        with RunLock(tmp_path):
            pass
    else:
        with pytest.raises(InputError, match="job 17"), RunLock(tmp_path):
            pass


def test_of_two_that_take_over_at_once_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The quicker one's new lock is put back by the slower one."""
    path = left_behind(tmp_path, pid=1, process_start="1")
    quicker = json.dumps({"host": "elsewhere", "pid": 5, "process_start": "5", "since": "now", "job": None})
    is_dead = RunLock._is_dead

    def judge(self: RunLock, other: dict[str, Any]) -> bool:
        dead = is_dead(self, other)
        path.write_text(quicker)
        return dead

    monkeypatch.setattr(RunLock, "_is_dead", judge)
    with pytest.raises(InputError, match="just begun"), RunLock(tmp_path):
        pass
    assert path.read_text() == quicker


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\)"), RunLock(tmp_path / "file" / "run"):
        pass
