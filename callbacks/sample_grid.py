"""Watch a run: a grid of samples from the same noise, next to the pictures it learns from."""

from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torchvision.utils import make_grid

from tenshot.callbacks.ema import averaged
from tenshot.callbacks.shared_drawing import drawn_together, publish
from tenshot.lightning_modules import ImageGenerator

__all__ = ["SampleGrid"]


class SampleGrid(Callback):
    """Draw the same seeds every so many steps: ``samples/step=00000500.png`` in the run's folder, and every logger.

    The upper rows are the first training pictures (the shots), the lower ones samples from the averaged weights.

    Args:
        every_n_steps: Optimiser steps between two grids; there is one at the end too. 0 for none.
        count: Samples in the grid.
        columns: Pictures in a row.
        seed: Of the samples.
    """

    def __init__(self, every_n_steps: int = 500, count: int = 20, columns: int = 10, seed: int = 0) -> None:
        self.every_n_steps, self.count, self.columns, self.seed = every_n_steps, count, columns, seed
        self._drawn_step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run has the grid of the step it was loaded from."""
        self._drawn_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw when it is time."""
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the end."""
        if self.every_n_steps:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        draws = hasattr(pl_module, "sample")  # a classifier does not
        if not draws or trainer.global_step == self._drawn_step or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._drawn_step = trainer.global_step

        def draw(numbers: Tensor) -> Tensor:
            seeds = numbers + (self.seed << 32)
            return cast(ImageGenerator, pl_module).sample(seeds.to(pl_module.device), preview=True)

        with averaged(trainer, pl_module):
            samples = drawn_together(trainer, pl_module, self.count, draw)
        self._publish(trainer, samples)

    @rank_zero_only
    def _publish(self, trainer: Trainer, samples: Tensor) -> None:
        preview = getattr(trainer.datamodule, "preview", None)  # type: ignore[attr-defined]
        shown = samples
        if preview is not None:
            shots = preview(self.columns).cpu()
            blank = samples.new_ones(-len(shots) % self.columns, *samples.shape[1:])
            shown = torch.cat([shots, blank, samples])
        grid = make_grid(shown, nrow=self.columns, padding=2, pad_value=1.0)
        publish(trainer, grid, "samples", trainer.global_step)
