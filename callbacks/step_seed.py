"""Random numbers that depend on where a run is, not on how it got there."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tenshot.distributed.seeding import position_seed, run_seed

__all__ = ["StepSeed"]


class StepSeed(Callback):
    """Seed PyTorch anew before each batch, from (seed, optimiser step, rank, micro-batch).

    Noise, timesteps and dropout of a step are then the same in a resumed run as in one that was never stopped, and no
    state of a generator has to be stored. Validation batches get seeds of their own, equal at every validation.

    Args:
        seed: Of the run; by default the one given to ``seed_everything``, or 0.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def _reseed(self, *position: int) -> None:
        seed = run_seed() if self.seed is None else self.seed
        torch.manual_seed(position_seed([seed, *position]))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed for the micro-batch."""
        self._reseed(0, trainer.global_rank, batch_idx % trainer.accumulate_grad_batches, trainer.global_step)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Seed for the validation batch."""
        self._reseed(1, trainer.global_rank, dataloader_idx, batch_idx)
