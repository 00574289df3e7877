"""A hundred kills at random moments: ``OMP_NUM_THREADS=1 python -m benchmarks.kills``; about twenty minutes.

A small run is killed by SIGKILL, SIGTERM or SIGUSR1, resumed with ``--ckpt_path last``, killed again, until it is done;
then another one, until there were so many kills. A third of them come at any moment of the start of an attempt or
soon after, a third at any moment of any of its first steps, and a third while a checkpoint is being written. Of each
kill it is asked whether the run goes on, whether an older checkpoint became the newest, and how many steps have to be
done again: none where a signal was answered with a checkpoint, else at most those since the last whole one. Of each
run, whether weights, averages, optimisers, sample grids and the log (without speeds) are to the last bit those of a run
that was left alone, with each step in the log once.

An attempt is a fork of this process (`parts/attempts.py`): it takes a second or two, not ten. Writes
``benchmarks/results/<name>.md``; ends with status 1 if anything was not as it should be.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.parts.attempts import (
    Broken,
    assert_alike,
    begin,
    lines,
    log_of,
    partials,
    rows,
    saved_step,
    stamp_of,
    wait,
)
from benchmarks.parts.report import describe_machine
from tenshot.callbacks.preemption import EXIT_STATUS

RESULTS = Path(__file__).parent / "results"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
WAYS = ("start", "step", "saving")
LATE = 0.02
"""Seconds after the beginning of a checkpoint that a kill comes at most that waits for one."""
START = 1.5
"""Times of a start that a kill comes at most after the beginning of an attempt."""
STEPS = 20
"""Steps of an attempt that a kill waits at most."""

SETTINGS: dict[str, Any] = {
    "trainer": {
        "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1,
    },
    "data": {"class_path": "SyntheticFaces", "init_args": {"batch_size": 2, "num_images": 10, "num_val": 0}},
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "DDPM": {
        "unet": {
            "image_size": 16, "channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1, "dropout": 0.3,
            "attention_resolutions": [8], "head_channels": 32,
        },
        "preview_sampler": {"method": "ddim", "steps": "ddim2"},
    },
    "StyleGAN2": {
        "stylegan2": {
            "image_size": 32, "channel_base": 256, "max_channels": 16, "latent_dim": 8, "mapping_layers": 2,
        },
    },
}  # fmt: skip


@dataclass(frozen=True)
class Kill:
    """What a kill did.

    Args:
        number: The signal.
        moment: ``start-up``: before the first step of the attempt was logged; ``saving``: while a checkpoint was being
            written, which SIGKILL left torn; ``end``: in the last step or later; ``training``: any other.
        answered: Whether the run saved a checkpoint and ended with the status that asks for a requeue.
        lost: Steps that were done, as log and torn checkpoint tell, and have to be done again.
    """

    number: signal.Signals
    moment: str
    answered: bool
    lost: int


@dataclass
class Course:
    """How runs are to be killed.

    Args:
        argv: Of ``tenshot``, without the run's folder.
        steps: Of a run.
        every: Steps between two checkpoints.
        start: Seconds from the beginning of an attempt to its first step, of the last that came so far.
        step: Seconds of a step, likewise.
        draw: Draws signals and moments.
    """

    argv: list[str]
    steps: int
    every: int
    start: float
    step: float
    draw: random.Random

    def run(self, run: Path, whole: Path, most: int) -> list[Kill]:
        """One run with at most so many kills, to its end, and compared with the one that was left alone.

        Raises:
            Broken: Something was not as it should be.
        """
        output, kills, status = run.with_suffix(".out"), list[Kill](), None
        argv = [*self.argv, "--trainer.default_root_dir", str(run), "--ckpt_path", "last"]
        while status != 0:
            if len(kills) < most:
                kill, status = self.attempt(argv, run, output)
            else:
                kill, status = None, wait(begin(argv, output))
            if kill is not None:
                kills.append(kill)
                rounds = 2 if kill.moment == "saving" else 1  # training goes on while a checkpoint is written
                if kill.lost > (0 if kill.answered else rounds * self.every):
                    raise Broken(f"{kill.number.name} lost {kill.lost} steps; there is a checkpoint every {self.every}")
            elif status != 0:
                raise Broken(f"left alone, it ended with status {status}")
        assert_alike(run, whole, self.steps)
        return kills

    def attempt(self, argv: list[str], run: Path, output: Path) -> tuple[Kill | None, int]:
        """One attempt: its kill, if it did not end before, and its exit status."""
        number, stamp, torn, before = self.draw.choice(SIGNALS), stamp_of(run), partials(run), saved_step(run)
        pid = begin(argv, output)
        status = self.wait_for_a_moment(pid, run)
        if status is not None:
            return None, status
        began, saving = stamp_of(run) != stamp, bool(partials(run) - torn)
        os.kill(pid, number)
        status = wait(pid)
        assert status is not None
        answered = status == EXIT_STATUS
        if not (answered or status in (0, -number)):
            raise Broken(f"{number.name} made it end with status {status}")
        after, cut = saved_step(run), {name for name, _ in partials(run) - torn}
        if after < before:
            raise Broken(f"{number.name} left step {after} as the newest, and {before} was there before")
        done = [int(row["step"]) + 1 for row in rows(run) if stamp_of(run) != stamp]
        done += [int(name[len(".step=") :].partition(".")[0]) for name in cut]
        if number == signal.SIGKILL:
            saving = bool(cut)
        moment = "end" if after == self.steps else "saving" if saving else "training" if began else "start-up"
        if moment in ("training", "saving") and not answered and number != signal.SIGKILL:
            raise Broken(f"{number.name} was not answered")
        return Kill(number, moment, answered, max(0, max(done, default=0) - after)), status

    def wait_for_a_moment(self, pid: int, run: Path) -> int | None:
        """Any of an attempt; its exit status if it is over before."""
        way, which, steps = self.draw.choice(WAYS), self.draw.randint(1, 4), self.draw.randint(1, STEPS)
        delay = self.draw.uniform(0, {"start": START * self.start, "step": self.step, "saving": LATE}[way])
        born, stamp, torn, seen = time.monotonic(), stamp_of(run), partials(run), partials(run)

        def writes() -> bool:
            seen.update(partials(run))
            return len({name for name, _ in seen - torn}) >= which

        status = wait(pid, lambda: stamp_of(run) != stamp or (way == "start" and time.monotonic() - born > delay))
        if status is None and stamp_of(run) != stamp:
            self.start, since, first = time.monotonic() - born, time.monotonic(), lines(run)
            if way == "saving":
                status = wait(pid, writes)
            elif way == "step":
                status = wait(pid, lambda: lines(run) >= first + steps - 1)
                self.step = (time.monotonic() - since) / steps
        at = born + delay if way == "start" else time.monotonic() + delay
        return wait(pid, lambda: time.monotonic() > at) if status is None else status


def markdown(kills: list[Kill], runs: int, broken: list[str], args: argparse.Namespace, seconds: float) -> str:
    """The page."""
    machine = describe_machine("cpu", 1)
    lines = [
        f"{args.method}, {args.steps} steps, a checkpoint every {args.every}; seed {args.seed}. {machine['cpu']}, one "
        f"thread, torch {machine['torch']}; {seconds / 60:.0f} minutes. How it was done: `benchmarks/kills.py`.",
        "",
        "| signal | kills | in start-up | in training | while saving | at the end | answered by saving | "
        "steps lost, mean | most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number in SIGNALS:
        mine = [kill for kill in kills if kill.number == number]
        moments = Counter(kill.moment for kill in mine)
        lost = [kill.lost for kill in mine] or [0]
        cells = [
            len(mine), *(moments[moment] for moment in ("start-up", "training", "saving", "end")),
            sum(kill.answered for kill in mine), f"{sum(lost) / len(lost):.1f}", max(lost),
        ]  # fmt: skip
        lines.append(f"| {number.name} | {' | '.join(map(str, cells))} |")
    alike = f"{runs - len(broken)} of {runs}"
    return "\n".join([
        *lines,
        "",
        f"{len(kills)} kills of {runs} runs. Runs that went on after each kill and ended with the weights, averages, "
        f"optimiser states, grids and log of a run that was left alone, to the last bit: {alike}.",
        *(f"\n* {line}" for line in broken),
        "",
        "Steps lost were done, as the log or a torn checkpoint tells, and had to be done again. In start-up is before "
        "an attempt's first step was logged: a signal that comes then is answered after that step. While saving: "
        "SIGKILL left a torn checkpoint, which the next attempt passed over. At the end is in the last step or after "
        "it, where nothing is left to preempt.",
        "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=tuple(METHODS), default="DDPM")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=7, help="steps between two checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals")
    parser.add_argument("--name", default="kills", help="of the file in benchmarks/results")
    parser.add_argument("--folder", type=Path, help="for the runs; a temporary one by default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        argv = ["fit", "--config", str(configuration(folder, args))]
        start = time.monotonic()
        whole = folder / "whole"
        pid = begin([*argv, "--trainer.default_root_dir", str(whole)], folder / "whole.out")
        status = wait(pid, log_of(whole).exists)
        first = time.monotonic()
        if status is not None or wait(pid):
            sys.exit((folder / "whole.out").read_text())
        step = (time.monotonic() - first) / args.steps
        course = Course(argv, args.steps, args.every, first - start, step, random.Random(args.seed))
        kills, broken, runs = list[Kill](), list[str](), 0
        while len(kills) < args.kills:
            name = f"run{runs}"
            try:
                kills += course.run(folder / name, whole, args.kills - len(kills))
            except Broken as error:
                broken.append(f"{name}: {error}")
            runs += 1
            print(f"{len(kills)} kills of {runs} runs; broken: {broken or 'none'}", file=sys.stderr)
        page = markdown(kills, runs, broken, args, time.monotonic() - start)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{args.name}.md").write_text(page)
    print(page)
    sys.exit(bool(broken))


def configuration(folder: Path, args: argparse.Namespace) -> Path:
    """The file that --config takes."""
    network = next(iter(METHODS[args.method].values()))
    settings = SETTINGS | {
        "model": {"class_path": args.method, "init_args": METHODS[args.method]},
        "trainer": SETTINGS["trainer"] | {"max_steps": args.steps},
        "checkpoint": {"every_n_steps": args.every},
        "grid": {"every_n_steps": args.steps // 3, "count": 2, "columns": 2},
        "strip": {"every_n_steps": 0},
    }
    settings["data"]["init_args"]["image_size"] = network["image_size"]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


if __name__ == "__main__":
    main()
