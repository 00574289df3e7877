"""Stages of ``tenshot`` commands as processes, one or two at a time, each with its log."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import floor
from pathlib import Path

import torch

from tenshot.callbacks.threads import ROUNDING, STAT, seconds_of_others

PROGRAM = (sys.executable, "-m", "tenshot")
PROGRESS = re.compile(r"((?:training|drawing) \d+/\d+)")
LOOK, LINES, TAIL, WAIT = 0.2, 15.0, 15, 30.0
"""Seconds between two looks at the processes; between two lines where the output is no terminal; lines of the log of a
stage that failed; seconds in which a stage that was told to stop may save a checkpoint."""


class StageFailed(Exception):
    """A stage ended with an error; what it says is for the user."""


@dataclass(frozen=True)
class Stage:
    """Commands that follow one another.

    Args:
        name: As it is shown.
        commands: Words after ``tenshot``.
        folder: Where its log and the list of what is done lie.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    folder: Path

    @property
    def log(self) -> Path:
        """What the commands print."""
        return self.folder / "log.txt"

    @property
    def left(self) -> tuple[tuple[str, ...], ...]:
        """The commands that are not done.

        Raises:
            StageFailed: Others were done in this folder.
        """
        record = self.folder / "done.json"
        done = [tuple(command) for command in json.loads(record.read_text())] if record.exists() else []
        if tuple(done) != self.commands[: len(done)]:
            raise StageFailed(f"{self.folder}: is of other commands or an earlier version: move it away")
        return self.commands[len(done) :]

    def note(self, command: tuple[str, ...]) -> None:
        """Write down that the next command is done."""
        done = [*self.commands[: len(self.commands) - len(self.left)], command]
        partial = self.folder / "done.json.part"
        partial.write_text(json.dumps(done))
        partial.replace(self.folder / "done.json")


@dataclass
class Running:
    """A stage, its process, and what it does."""

    stage: Stage
    process: subprocess.Popen[bytes]
    command: tuple[str, ...]
    began: float
    log_began: int

    def progress(self) -> str:
        """What it does, how far it is by its log, and for how long."""
        with open(self.stage.log, "rb") as file:
            file.seek(self.log_began)
            told = PROGRESS.findall(file.read().decode(errors="replace"))
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        words = {"fit": "training", "test": "measuring", "predict": "drawing"}
        return f"{self.stage.name}: {told[-1] if told else words[self.command[0]]}, {minutes}:{seconds:02d}"


def free_cores() -> float:
    """Cores of this process that others left free during a second."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not STAT.exists():
        return cores
    before, start = seconds_of_others(), time.monotonic()
    time.sleep(1)
    return max(0.0, cores - (seconds_of_others() - before) / (time.monotonic() - start))


def choose_lanes(cores: int, free: float, gpu: bool) -> tuple[int, int | None]:
    """How many stages at a time, and the threads of each; none: each takes what is free.

    Two stages of a thread each do more on two cores than one after the other with two threads, which wait for each
    other at every layer of a small network, above all where another process is busy. A GPU is better used by one.
    """
    if gpu or cores < 2:
        return 1, None
    return 2, max(1, floor(free + ROUNDING) // 2)


def lanes() -> tuple[int, int | None]:
    """The same, of this machine now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return choose_lanes(cores, free_cores(), torch.cuda.is_available())


def start(stage: Stage, threads: int | None) -> Running:
    """Begin the next command of a stage."""
    command = stage.left[0]
    stage.folder.mkdir(parents=True, exist_ok=True)
    number = "" if threads is None else f"OMP_NUM_THREADS={threads} "
    say(f"$ {number}tenshot {shlex.join(command)}   # {stage.log}")
    env = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with open(stage.log, "ab") as log:
        log.write(f"$ tenshot {shlex.join(command)}\n".encode())
        log.flush()
        words = [*PROGRAM, *command]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env)
        return Running(stage, process, command, time.monotonic(), log.tell())


def run_stages(stages: Sequence[Stage], at_a_time: int, threads: int | None) -> Iterator[Stage]:
    """Do what is left of the stages, in their order; gives each when it is done, those that were first.

    Raises:
        StageFailed: A command failed. The other stage was told to stop, and goes on the next time.
    """
    waiting = [stage for stage in stages if stage.left]
    yield from (stage for stage in stages if not stage.left)
    running: list[Running] = []
    spoke = time.monotonic()
    try:
        while running or waiting:
            while waiting and len(running) < at_a_time:
                running.append(start(waiting.pop(0), threads))
            time.sleep(LOOK)
            spoke = tell(running, spoke)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                if one.process.returncode != 0:
                    raise StageFailed(failure(one))
                one.stage.note(one.command)
                if one.stage.left:
                    running.append(start(one.stage, threads))
                else:
                    say(f"{one.stage.name}: done")
                    yield one.stage
    except KeyboardInterrupt:  # the terminal told the processes too
        for one in running:
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(WAIT)
        raise
    finally:
        for one in running:
            if one.process.poll() is None:
                one.process.terminate()
        for one in running:
            try:
                one.process.wait(WAIT)
            except subprocess.TimeoutExpired:
                one.process.kill()


def failure(one: Running) -> str:
    """Who failed, and the end of its log."""
    lines = one.stage.log.read_text(errors="replace").splitlines()[-TAIL:]
    status = one.process.returncode
    return "\n".join([f"{one.stage.name} failed (tenshot {one.command[0]}, status {status}); its log ends in", *lines,
                      f"the whole log: {one.stage.log.resolve()}"])  # fmt: skip


def say(line: str) -> None:
    """Print a line, where that of the progress stands."""
    print(("\r\033[K" if sys.stdout.isatty() else "") + line, flush=True)


def tell(running: Sequence[Running], spoke: float) -> float:
    """Show how far the stages are: in place on a terminal, else in a line now and then; when that was."""
    now = time.monotonic()
    if sys.stdout.isatty():
        width = os.get_terminal_size().columns - 1
        print("\r\033[K" + "   ".join(one.progress() for one in running)[:width], end="", flush=True)
    elif now - spoke > LINES:
        print("   ".join(one.progress() for one in running), flush=True)
        return now
    return spoke
