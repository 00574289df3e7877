"""When a run saves itself."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info

from tenshot.callbacks.throughput import paused
from tenshot.checkpoints.runs import checkpoint_path, checkpoints_of
from tenshot.checkpoints.uses import is_used
from tenshot.distributed.end_together import end_together
from tenshot.distributed.trainer_attributes import is_trial
from tenshot.errors import InputError
from tenshot.run.atomic_io import joined, removed, reported

__all__ = ["StepCheckpoint"]


class StepCheckpoint(Checkpoint):
    """Save ``checkpoints/step=00000500.ckpt`` in the run's folder every so many steps and at the end.

    A checkpoint that cannot be written on the way (a full disk) is no reason to stop: one line says so when it begins,
    the last good ones stay, and the next is tried when it is time. At the end, and when the run is preempted, it is an
    error.

    On the way training goes on while a checkpoint is written, from a copy in host memory: it waits for the copy alone,
    or for the one before, if that is still being written. A run ends or stops when its last one is whole.

    Args:
        every_n_steps: Optimiser steps between two checkpoints.
        keep: How many of the newest to keep; an older one is removed only once a newer one is whole, and not if
            another run depends on it.
    """

    def __init__(self, every_n_steps: int = 500, keep: int = 2) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("keep", keep)):
            if value < 1:
                raise InputError(f"checkpoint.{name} is {value}: choose at least 1")
        self.every_n_steps, self.keep = every_n_steps, keep
        self._saved_step, self._tried_step = -1, -1
        self._writing: int | None = None  # the step that is being saved
        self._failure: str | None = None  # of the last save, on rank 0
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
            InputError: The run is preempted, and could not be saved.
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

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let the checkpoint become whole that is being written."""
        joined(trainer.strategy.checkpoint_io)

    def _save(self, trainer: Trainer, must: bool) -> None:
        """Begin to save, or, if it must be, save."""
        if is_trial(trainer):
            return
        self._settle(trainer)
        if trainer.global_step == self._saved_step:
            return
        self._tried_step = self._writing = step = trainer.global_step
        saved = checkpoint_path(Path(trainer.default_root_dir), step)

        def done(failure: InputError | None) -> None:
            self._failure = None if failure is None else str(failure)
            if failure is None:
                self._failing = False
                if trainer.is_global_zero:
                    self._remove_older_than(saved)
            elif not must:
                if not self._failing:
                    rank_zero_info(f"step {step} is not saved, training goes on: {failure}")
                self._failing = True

        with paused(trainer), reported(trainer.strategy.checkpoint_io, done, later=not must):
            trainer.save_checkpoint(saved, weights_only=False)
        if must:
            failure = self._settle(trainer)
            if failure is not None:
                end_together(trainer, failure)

    def _settle(self, trainer: Trainer) -> str | None:
        """Wait for the checkpoint that is being written. What failed, on all ranks."""
        if self._writing is None:
            return None
        with paused(trainer):
            joined(trainer.strategy.checkpoint_io)
        failure: str | None = trainer.strategy.broadcast(self._failure)
        if failure is None:
            self._saved_step = self._writing
        self._writing = None
        return failure

    def _remove_older_than(self, saved: Path) -> None:
        # later ones may be there, torn by a kill or of a run resumed from an earlier step: they do not count
        earlier = [path for path in checkpoints_of(saved.parent.parent) if path.name < saved.name]
        for old in earlier[self.keep - 1 :]:
            if not is_used(old):
                removed(old)
