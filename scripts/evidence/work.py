"""Runs side by side: each command is a process with one thread; what is finished is not done again."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from .plan import Run, Task

PROGRAM = "from tenshot.cli import main; main()"


@dataclass
class Outcome:
    """What became of runs, by their titles."""

    finished: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Why."""


@contextmanager
def held(path: Path, wait: bool = False) -> Iterator[int | None]:
    """A lock; its descriptor, or None where another process has it. What inherits the descriptor holds it too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file.fileno()


class Workers:
    """Several at a time take the first run that can begin.

    Args:
        runs: In the order in which they are wanted.
        jobs: How many at a time.
    """

    def __init__(self, runs: Sequence[Run], jobs: int) -> None:
        self.waiting = list(runs)
        self.jobs, self.count, self.begun = jobs, len(runs), 0
        self.outcome = Outcome()
        self._change = threading.Condition()
        self._busy: list[Run] = []
        self._children: dict[subprocess.Popen[bytes], Task] = {}
        self._stopping = False

    def work(self) -> Outcome:
        """Until nothing is left, or a signal comes; then training saves a checkpoint, and the same command goes on."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        threads = [threading.Thread(target=self._take) for _ in range(self.jobs)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # so that a signal is heard
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._stopping:
            print("stopped: the same command goes on", flush=True)
            sys.exit(130)
        return self.outcome

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """End what runs. Children have sessions of their own, so that Ctrl-C in a terminal comes here alone."""
        self._stopping = True
        for child, task in list(self._children.items()):
            _end(child, task)

    def _take(self) -> None:
        while True:
            with self._change:
                while not self._stopping and self.waiting and self._next() is None and self._busy:
                    self._change.wait(1.0)
                run = self._next()
                if self._stopping or run is None:
                    if not (self._stopping or self._busy):
                        self._without_source()
                    return
                self.waiting.remove(run)
                self._busy.append(run)
                self.begun += 1
                about = f"[{self.begun}/{self.count}] {run.of.name}: {run.title}"
            try:
                self._do(run, about)
            except OSError as error:
                self.outcome.failed[run.title] = str(error)
            finally:
                with self._change:
                    self._busy.remove(run)
                    self._change.notify_all()

    def _without_source(self) -> None:
        """Those left over wait for a source that failed, or that another process is training."""
        for run in self.waiting:
            if self.outcome.elsewhere:
                self.outcome.elsewhere.append(run.title)
            else:
                self.outcome.failed[run.title] = f"its source, {run.needs}, is not there"
        self.waiting.clear()

    def _next(self) -> Run | None:
        return next((run for run in self.waiting if run.needs is None or run.needs.exists()), None)

    def _do(self, run: Run, about: str) -> None:
        with held(run.folder / "work.lock") as lock:
            if lock is None:
                self.outcome.elsewhere.append(run.title)
                print(f"{about}: another process is at it", flush=True)
                return
            for task in run.tasks():
                if self._stopping:
                    return
                if task.finished(run.folder):
                    continue
                print(f"{about}: {task.name}\n$ {task.line}", flush=True)
                start = time.monotonic()
                status = self._call(task, run.folder, lock)
                seconds = time.monotonic() - start
                with open(run.folder / "seconds.csv", "a") as file:
                    file.write(f"{task.name},{seconds:.1f}\n")
                if self._stopping:
                    return
                if status or not task.finished(run.folder):
                    log = run.folder / f"{task.name}.log"
                    last = log.read_text(errors="replace").strip().splitlines()[-3:]
                    self.outcome.failed[run.title] = f"{task.name} ended with status {status}, {log}: " + " | ".join(
                        last
                    )
                    print(f"{about}: {self.outcome.failed[run.title]}", flush=True)
                    return
                print(f"{about}: {task.name} took {seconds / 60:.1f} minutes", flush=True)
            self.outcome.finished.append(run.title)

    def _call(self, task: Task, folder: Path, lock: int) -> int:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with open(folder / f"{task.name}.log", "a") as log:
            log.write(f"$ {task.line}\n")
            log.flush()
            child = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *task.argv], stdout=log, stderr=subprocess.STDOUT, env=environment,
                stdin=subprocess.DEVNULL, pass_fds=(lock,), start_new_session=True,
            )  # fmt: skip
            self._children[child] = task
            if self._stopping:  # the signal came in between
                _end(child, task)
            status = child.wait()
            del self._children[child]
        return status


def _end(child: "subprocess.Popen[bytes]", task: Task) -> None:
    """Training saves a checkpoint first; a test begins anew."""
    child.send_signal(signal.SIGTERM if task.name.startswith("train") else signal.SIGKILL)
