"""How many threads a run on a CPU takes, where another process takes a core and gives it back."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch
from lightning.pytorch import Callback

from tenshot.callbacks import threads
from tenshot.callbacks.threads import Threads, busy_seconds, seconds_of_others

STAT = """cpu  1000 200 300 9000 50 6 7 8 0 0
cpu0 100 20 30 4000 10 1 2 3 0 0
cpu1 500 80 170 4000 20 3 3 4 0 0
cpu12 400 100 100 1000 20 2 2 1 0 0
intr 12345 1 2 3
"""


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The cores that others use, from one look to the next; a look is taken every step."""
    used = [0.0]
    clock, others = [0.0], [0.0]

    def tick() -> float:
        clock[0] += 5
        others[0] += 5 * used[0]
        return clock[0]

    monkeypatch.setattr(threads, "monotonic", tick)
    monkeypatch.setattr(threads, "seconds_of_others", lambda: others[0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(2)
    yield used
    torch.set_num_threads(1)


class Others(Callback):
    """Others use so many cores at each step; notes the threads that the step is done with."""

    def __init__(self, used: list[float], plan: list[float]) -> None:
        self.used, self.plan, self.threads = used, plan, list[int]()

    def on_train_batch_start(self, *_: object) -> None:
        self.threads.append(torch.get_num_threads())
        self.used[0] = self.plan[len(self.threads) % len(self.plan)]


def taken(folder: Path, used: list[float], plan: list[float]) -> list[int]:
    others = Others(used, plan)
    used[0] = plan[0]
    tiny.trainer(folder, len(plan), Threads(), others).fit(tiny.ddpm(), tiny.faces())
    return others.threads


def test_one_thread_while_another_process_has_a_core(
    tmp_path: Path, two_cores: list[float], caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    assert taken(tmp_path, two_cores, [0.0, 1.0, 0.9, 0.1, 1.9, 0.0]) == [2, 1, 1, 2, 1, 2]
    assert caplog.text.count("1 of 2 threads, for other processes use 1.0 cores") == 1
    assert torch.get_num_threads() == 2


def test_it_ends_with_the_threads_it_began_with(tmp_path: Path, two_cores: list[float]):
    assert taken(tmp_path, two_cores, [1.0, 1.0]) == [1, 1]
    assert torch.get_num_threads() == 2


def test_the_first_choice_is_soon_and_later_ones_are_rarer(
    tmp_path: Path, two_cores: list[float], monkeypatch: pytest.MonkeyPatch
):
    """A step takes five seconds here."""
    monkeypatch.setattr(threads, "EVERY", 12.0)
    assert taken(tmp_path, two_cores, [1.0, 0.0, 0.0, 0.0]) == [1, 1, 1, 2]


def test_threads_are_given_back_after_an_error(tmp_path: Path, two_cores: list[float]):
    class Broken(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            raise RuntimeError("broken")

    two_cores[0] = 1.0
    with pytest.raises(RuntimeError, match="broken"):
        tiny.trainer(tmp_path, 2, Threads(), Broken()).fit(tiny.ddpm(), tiny.faces())
    assert torch.get_num_threads() == 2


def test_a_number_of_the_users_stays(tmp_path: Path, two_cores: list[float], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert taken(tmp_path, two_cores, [1.0, 1.0]) == [2, 2]


def test_drawing_chooses_too(tenshot: tiny.Run, trained: Path, tmp_path: Path, two_cores: list[float]):
    two_cores[0] = 1.0
    outcome = tenshot("predict", "--ckpt_path", trained, "--images.dir", tmp_path / "images", "--images.count", "1")
    assert outcome.status == 0, outcome.err
    assert "1 of 2 threads" in outcome.log


@pytest.mark.parametrize(("cores", "niced", "ticks"), [({0}, False, 136), ({1, 12}, False, 1185), ({0, 1}, True, 916)])
def test_work_of_some_cores(cores: set[int], niced: bool, ticks: int):
    assert busy_seconds(STAT, cores, niced) == pytest.approx(ticks / os.sysconf("SC_CLK_TCK"))


@pytest.mark.skipif(not threads.STAT.exists(), reason="a system that does not tell")
def test_a_process_that_works_is_seen():
    before = seconds_of_others()
    work = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", work], check=True)
    assert seconds_of_others() - before > 0.45
