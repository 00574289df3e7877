"""When a run saves itself."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from tenshot.errors import InputError
from tenshot.lightning_modules.runs import checkpoint_path, checkpoints_of

__all__ = ["StepCheckpoint"]


class StepCheckpoint(Checkpoint):
    """Save ``checkpoints/step=00000500.ckpt`` in the run's folder every so many steps and at the end.

    Args:
        every_n_steps: Optimiser steps between two checkpoints.
        keep: How many of the newest to keep; an older one is removed only once a newer one is whole.
    """

    def __init__(self, every_n_steps: int = 500, keep: int = 2) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("keep", keep)):
            if value < 1:
                raise InputError(f"checkpoint.{name} is {value}: choose at least 1")
        self.every_n_steps, self.keep = every_n_steps, keep
        self._saved_step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run need not save what it was loaded from."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time."""
        if trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step == self._saved_step or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._saved_step = trainer.global_step
        run = Path(trainer.default_root_dir)
        saved = checkpoint_path(run, trainer.global_step)
        trainer.save_checkpoint(saved, weights_only=False)
        if trainer.is_global_zero:
            # later ones may be there, torn by a kill or of a run resumed from an earlier step: they do not count
            earlier = [path for path in checkpoints_of(run) if path.name < saved.name]
            for old in earlier[self.keep - 1 :]:
                old.unlink()
