"""How far a run is: a bar on a terminal, a line now and then in a log file."""

import time
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tenshot.callbacks.throughput import Throughput
from tenshot.distributed.trainer_attributes import callback_of

__all__ = ["StepProgress"]


class StepProgress(ProgressBar):
    """Steps done of ``max_steps``, steps and images a second, share of time that the loop waited for batches, time
    left, and the loss; for predict and validate, batches.

    Images a second and the share are those of ``Throughput``; steps a second and the time left are by the clock on
    the wall, with whatever else the run does.

    Args:
        refresh_every: Steps between two looks at the loss, each of which waits for the device.
        lines_every: Where the output is no terminal: seconds between two lines.
    """

    def __init__(self, refresh_every: int = 10, lines_every: float = 30.0) -> None:
        super().__init__()
        self.refresh_every, self.lines_every = refresh_every, lines_every
        self.console = Console(stderr=True)
        self._enabled = True
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._throughput: Throughput | None = None
        self._title, self._total, self._done, self._start, self._began, self._spoke = "", 0, 0, 0, 0.0, 0.0

    def disable(self) -> None:
        """Lightning calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar again."""
        self._enabled = True

    def _open(self, title: str, done: int, total: float) -> None:
        if not self._enabled:
            return
        self._title, self._total, self._done, self._start = title, int(total) if total < 1e12 else 0, done, done
        self._began = self._spoke = time.monotonic()
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = Progress(
                *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=self.console
            )
            self._task = self._bar.add_task(title, total=self._total or None, completed=done, note="")
            self._bar.start()

    def _show(self, done: int, note: str) -> None:
        if not self._enabled:
            return
        self._done, now, left = done, time.monotonic(), ""
        if now > self._began and done > self._start:
            rate = (done - self._start) / (now - self._began)
            note = f"{rate:.3g}/s  {note}"
            left = f"{timedelta(seconds=round((self._total - done) / rate))} left  " if self._total else ""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif now - self._spoke > self.lines_every or done == self._total:
            self._spoke = now
            self.console.print(f"{self._title} {done}/{self._total or '?'}  {left}{note}", highlight=False)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the run."""
        self._throughput = callback_of(trainer, Throughput)
        self._open("training", trainer.global_step, trainer.max_steps if trainer.max_steps > 0 else float("inf"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        step = trainer.global_step
        if step != self._done and (step % self.refresh_every == 0 or step == self._total):
            # not what is logged with prog_bar=True, which Lightning reads back at every step
            shown = {k: v for k, v in trainer.callback_metrics.items() if k == "train/loss" or k.startswith("val/")}
            losses = [f"{name} {float(value):.4f}" for name, value in shown.items()]
            self._show(step, "  ".join([*self._pace(trainer), *losses]))

    def _pace(self, trainer: Trainer) -> list[str]:
        pace = self._throughput.pace() if self._throughput else None
        if pace is None:
            return []
        images = pace.images * trainer.world_size / pace.seconds
        return [f"{images:.3g} images/s", f"waiting for data {pace.waited / pace.seconds:.0%}"]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._close()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar of the images to draw."""
        self._open("drawing", 0, float(torch.tensor(trainer.num_predict_batches).sum()))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move the bar."""
        self._show(batch_idx + 1, "batches")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()
