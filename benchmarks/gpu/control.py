"""Runs the stages in processes of their own, within the budget: what crashes, hangs or is dropped is a row."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import append
from benchmarks.gpu.stages import Stage
from benchmarks.gpu.worker import END

POLL = 0.05
KEPT = 200_000
"""Bytes of each process's log."""
Row = dict[str, Any]


class Worker:
    """A process that has been started early, so that it has imported everything when its stage's turn comes."""

    def __init__(self, stages: Sequence[Stage], out: Path, scratch: Path, device: str, dry: bool, deadline: float):
        self.log = scratch / f"{stages[0].name}.log"
        words = [str(out / "rows.jsonl"), str(scratch), device, "dry" if dry else "", str(deadline)]
        words += [stage.name for stage in stages]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.worker", *words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ
                | {"OMP_NUM_THREADS": "8" if stages[0].alone and not dry else "1"}
                | ({"CUDA_VISIBLE_DEVICES": ""} if dry else {}),  # no threads for GPUs: it can fork
            )

    def begin(self, stage: Stage) -> None:
        """Tell it to run a stage."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died: seen by whoever waits for the stage
            self.process.stdin.write(f"{stage.name}\n".encode())
            self.process.stdin.flush()

    def end(self) -> None:
        """Kill it and whatever it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Control:
    """One run of the command.

    Args:
        out: Folder of ``rows.jsonl`` and the logs.
        scratch: Folder that stages write into.
        device: ``cuda:0`` or ``cpu``.
        dry: Tiny, all in one process.
        budget: Seconds for everything.
    """

    def __init__(self, out: Path, scratch: Path, device: str, dry: bool, budget: float) -> None:
        self.rows, self.out, self.scratch, self.device, self.dry = out / "rows.jsonl", out, scratch, device, dry
        self.deadline = time.time() + budget
        self.seen: list[Row] = []
        self.position = self.rows.stat().st_size if self.rows.exists() else 0

    def run(self, stages: Sequence[Stage]) -> list[Row]:
        """Run them and return all rows."""
        workers = self._workers(stages)
        try:
            for batch in batches(stages):
                self._batch(batch, workers)
        finally:
            for worker in dict.fromkeys(workers.values()):
                worker.end()
                self._keep(worker)
        self._read()
        return self.seen

    def _keep(self, worker: Worker) -> None:
        """Add the end of its log to the one file of all."""
        with (self.out / "log.txt").open("ab") as file:
            file.write(f"\n==== {worker.log.stem}\n".encode() + worker.log.read_bytes()[-KEPT:])

    def _workers(self, stages: Sequence[Stage]) -> dict[str, Worker]:
        """A process for each stage; dry, one for all."""
        if self.dry:
            return dict.fromkeys((stage.name for stage in stages), self._worker(stages))
        return {stage.name: self._worker([stage]) for stage in stages}

    def _worker(self, stages: Sequence[Stage]) -> Worker:
        return Worker(stages, self.out, self.scratch, self.device, self.dry, self.deadline)

    def _batch(self, batch: Sequence[Stage], workers: dict[str, Worker]) -> None:
        """Run stages side by side (dry: in turn) and wait for them."""
        if self.dry and len(batch) > 1:
            for stage in batch:
                self._batch([stage], workers)
            return
        waiting: dict[str, tuple[Stage, float]] = {}
        for stage in batch:
            left = self.deadline - time.time()
            if (not self.dry and left < stage.seconds) or left <= 0:
                self._say(stage, "dropped", f"takes about {stage.seconds} s, {max(0, left):.0f} s are left")
                continue
            if self.dry and workers[stage.name].process.poll() is not None:  # an earlier stage took it along
                workers.update(dict.fromkeys(workers, self._worker(batch)))
            workers[stage.name].begin(stage)
            most = math.inf if self.dry else 60 + 3 * stage.seconds
            waiting[stage.name] = stage, min(self.deadline, time.time() + most)
        while waiting:
            alive = {name: workers[name].process.poll() is None for name in waiting}
            for row in self._read():
                if row["name"] == END:
                    waiting.pop(row["stage"], None)
            for name, (stage, limit) in list(waiting.items()):
                if not alive[name]:
                    code = workers[name].process.returncode
                    self._say(stage, "failed", f"the process died: exit status {code}", tail(workers[name].log))
                elif time.time() > limit:
                    workers[name].end()
                    self._say(stage, "failed", "took too long: killed", tail(workers[name].log))
                else:
                    continue
                del waiting[name]
            time.sleep(POLL)
        if not self.dry:
            for stage in batch:
                workers[stage.name].end()

    def _say(self, stage: Stage, status: str, message: str, at: Iterable[str] = ()) -> None:
        name = f"whole {stage.part or 'stage'}"
        append(self.rows, {"stage": stage.module, "name": name, "status": status, "message": message, "at": list(at)})

    def _read(self) -> list[Row]:
        """Rows that are new, printed."""
        if not self.rows.exists():
            return []
        with self.rows.open("rb") as file:
            file.seek(self.position)
            lines = file.read()
        lines = lines[: lines.rfind(b"\n") + 1]
        self.position += len(lines)
        new = [json.loads(line) for line in lines.splitlines()]
        for row in new:
            print(line_of(row), flush=True)
        self.seen += new
        return new


def batches(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Neighbours that may run side by side together, others alone."""
    found: list[list[Stage]] = []
    for stage in stages:
        if found and not stage.alone and not found[-1][-1].alone:
            found[-1].append(stage)
        else:
            found.append([stage])
    return found


def line_of(row: Row, width: int = 200) -> str:
    """A row for the terminal."""
    values = ((name, value) for name, value in row.items() if name not in ("stage", "name", "status", "at"))
    text = "  ".join(f"{name}={value}" for name, value in values)
    mark = "" if row["status"] == "ok" else f"{row['status'].upper()} "
    return f"{mark}{row['stage']}: {row['name']}  {text}".replace("\n", " ")[:width]


def tail(log: Path, lines: int = 6) -> list[str]:
    """The last lines of a log."""
    return log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
