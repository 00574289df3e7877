"""The commands of ``tenshot`` that an adaptation consists of, and running one as a process of its own."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenshot.callbacks.preemption import BY_HAND, EXIT_STATUS
from tenshot.cli.adapt.choice import Recipe, Source
from tenshot.errors import InputError

__all__ = ["CRITERION", "FEATURES", "Plan", "line_of", "run"]

BEST = "checkpoints/best.ckpt"
EVALUATIONS = 10
"""How often training is interrupted to look at samples."""
WATCHED = 50
"""Samples that are looked at each time."""
MEASURED = 100
"""Samples of the best step that are measured."""
FEATURES = "efficientnet_lite0"
CRITERION = f"nearness_gap_{FEATURES}"
WATCH = ("nearest_lpips", "intra_lpips")
MEASURES = ("pairwise_lpips", "authenticity", "vendi")
"""At the end too: all that the images alone allow; what needs others of the domain cannot be had."""

STOPPED = (EXIT_STATUS, *BY_HAND.values())
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@dataclass(frozen=True)
class Plan:
    """What an adaptation is to do.

    Args:
        source: What it starts from.
        recipe: Of training.
        images: The folder of the images, as the user names it.
        output: The folder of the run.
        steps: Of training.
        samples: How many images to draw at the end.
        seed: Of training and of its order of images.
        patience: Evaluations worse than the best one since it after which training ends; none: it does all steps.
        tells: Whether nearness tells which step to take; else it is the last one.
    """

    source: Source
    recipe: Recipe
    images: str
    output: Path
    steps: int
    samples: int
    seed: int
    patience: int | None
    tells: bool = True

    @property
    def weights(self) -> str:
        """What to draw from: the checkpoint of the best step, or the folder of the run, of which the newest counts."""
        return str(self.output / BEST if self.tells else self.output)

    @property
    def every(self) -> int:
        """Steps between two evaluations."""
        return max(1, round(self.steps / EVALUATIONS))

    def commands(self) -> list[list[str]]:
        """The words after ``tenshot`` of each command, in order."""
        measure = ["test", "--ckpt_path", self.weights, "--evaluate.samples", str(MEASURED)]
        return [
            self._fit(),
            ["predict", "--ckpt_path", self.weights, "--images.count", str(self.samples)],
            [*measure, "--evaluate.metrics", _list([*self._watch(), *MEASURES])],
            ["compare", str(self.output), "--output", str(self.output / "comparison")],
        ]

    def _watch(self) -> list[str]:
        return [*(["nearness"] if self.tells else []), *WATCH]

    def _fit(self) -> list[str]:
        every = str(self.every)
        words = ["fit", "--config", _short(self.recipe.path), "--model.init_from", self.source.name]
        words += ["--data.root", self.images, *_for_these_images(self.recipe.content, self.source.size)]
        words += ["--seed_everything", str(self.seed), "--data.seed", str(self.seed)] if self.seed else []
        words += ["--trainer.max_steps", str(self.steps), "--trainer.default_root_dir", str(self.output)]
        words += ["--trainer.devices", "1"]  # with more, each step would see the ten images once a device
        words += ["--grid.every_n_steps", every, "--evaluate.every_n_steps", every]
        words += ["--evaluate.fit_samples", str(WATCHED), "--evaluate.metrics", _list(self._watch())]
        words += ["--evaluate.features", FEATURES]
        words += ["--evaluate.keep_best", CRITERION] if self.tells else []
        words += ["--evaluate.patience", str(self.patience)] if self.tells and self.patience is not None else []
        return [*words, "--ckpt_path", "last"]


def _for_these_images(recipe: dict[str, Any], size: int) -> list[str]:
    """What differs from a recipe that was written for other images, of another size, and a longer evaluation."""
    method, data, words = recipe["model"]["init_args"], recipe["data"]["init_args"], []
    if "shots" in data:
        words += ["--data.shots", "null"]
    if data.get("image_size") not in (None, size):
        words += ["--data.image_size", str(size)]
    if method.get("sampler", {}).get("method") == "ddpm":
        words += ["--model.sampler.method", "dpm_solver", "--model.sampler.steps", "20"]
    if "lpips_resize" in recipe.get("evaluate", {}):
        words += ["--evaluate.lpips_resize", "null"]
    return words


def _short(path: Path) -> str:
    """As the user would name it from here."""
    real, here = path.resolve(), Path.cwd().resolve()
    return str(real.relative_to(here) if real.is_relative_to(here) else path)


def _list(names: Sequence[str]) -> str:
    return f"[{','.join(names)}]"


def line_of(words: Sequence[str]) -> str:
    """A command as a shell takes it."""
    return f"$ {shlex.join(['tenshot', *words])}"


def run(words: Sequence[str], of: str = "adapt") -> None:
    """Run ``tenshot`` with these words, in a process of its own, and wait for its end.

    ``of`` is the command that it is a part of.

    Ctrl-C goes to both, and the command saves what it has; other requests to end are handed on to it.

    Raises:
        SystemExit: It ended with another status than 0, with that; it has said why.
        InputError: It was killed.
    """
    sys.stdout.flush()
    process = subprocess.Popen([sys.executable, "-m", "tenshot", *words])
    with _signals_left_to(process):
        status = process.wait()
    if status < 0:
        raise InputError(
            f"tenshot {words[0]} was killed ({signal.Signals(-status).name}), perhaps for want of memory: the same "
            f"tenshot {of} command goes on"
        )
    if status in STOPPED:
        print(f"tenshot: the same tenshot {of} command goes on", file=sys.stderr)
    if status:
        raise SystemExit(status)


@contextmanager
def _signals_left_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While the block runs, let a process answer signals in the place of this one."""

    def hand_on(number: int, frame: object) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in FORWARDED}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)  # a terminal sends it to all
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
