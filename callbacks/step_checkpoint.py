"""When a run saves itself."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info

from tenshot.callbacks.atomic_io import failures_noted, removed
from tenshot.callbacks.leaving import leave_together
from tenshot.callbacks.throughput import paused
from tenshot.errors import InputError
from tenshot.lightning_modules.runs import checkpoint_path, checkpoints_of
from tenshot.lightning_modules.uses import is_used

__all__ = ["StepCheckpoint"]


class StepCheckpoint(Checkpoint):
    """Save ``checkpoints/step=00000500.ckpt`` in the run's folder every so many steps and at the end.

    A checkpoint that cannot be written on the way (a full disk) is no reason to stop: one line says so when it begins,
    the last good ones stay, and the next is tried when it is time. At the end, and when the run has to leave, it is an
    error.

    Args:
        every_n_steps: Optimiser steps between two checkpoints.
        keep: How many of the newest to keep; an older one is removed only once a newer one is whole, and not if an
            adaptation recorded it as its source.
    """

    def __init__(self, every_n_steps: int = 500, keep: int = 2) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("keep", keep)):
            if value < 1:
                raise InputError(f"checkpoint.{name} is {value}: choose at least 1")
        self.every_n_steps, self.keep = every_n_steps, keep
        self._saved_step, self._tried_step = -1, -1
        self._asked, self._failing = False, False

    def save_now(self) -> None:
        """Save after this batch, whether it is time or not. To be called on all ranks, before the batch ends."""
        self._asked = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run need not save what it was loaded from, unless that is of another folder or name."""
        self._tried_step = trainer.global_step
        there = checkpoint_path(Path(trainer.default_root_dir), trainer.global_step).exists() or not trainer.global_step
        self._saved_step = trainer.global_step if trainer.strategy.broadcast(there) else -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time.

        Raises:
            InputError: The run has to leave, and could not be saved.
        """
        if self._asked:
            self._asked = False
            self._save(trainer, must=True)
        elif trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._tried_step:
            self._save(trainer, must=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end.

        Raises:
            InputError: It could not be saved.
        """
        self._save(trainer, must=True)

    def _save(self, trainer: Trainer, must: bool) -> None:
        if trainer.global_step == self._saved_step or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._tried_step = trainer.global_step
        run = Path(trainer.default_root_dir)
        saved = checkpoint_path(run, trainer.global_step)
        with paused(trainer), failures_noted(trainer.strategy.checkpoint_io) as failures:
            trainer.save_checkpoint(saved, weights_only=False)
        failure = trainer.strategy.broadcast(str(failures[0]) if failures else None)
        if failure is not None:
            if must:
                leave_together(trainer, failure)
            if not self._failing:
                rank_zero_info(f"step {trainer.global_step} is not saved, training goes on: {failure}")
            self._failing = True
            return
        self._saved_step, self._failing = trainer.global_step, False
        if trainer.is_global_zero:
            # later ones may be there, torn by a kill or of a run resumed from an earlier step: they do not count
            earlier = [path for path in checkpoints_of(run) if path.name < saved.name]
            for old in earlier[self.keep - 1 :]:
                if not is_used(old):
                    removed(old)
