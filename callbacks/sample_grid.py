"""Watch a run: a grid of samples from the same noise, next to the pictures it learns from."""

from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torchvision.utils import make_grid

from tenshot.callbacks.ema import averaged
from tenshot.callbacks.image_writer import to_uint8, write_png
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
        # Every rank draws its share and takes part in the gathering: none waits alone in a collective.
        mine = torch.arange(trainer.global_rank, self._padded(trainer), trainer.world_size) + (self.seed << 32)
        with averaged(trainer, pl_module):
            samples = cast(ImageGenerator, pl_module).sample(mine.to(pl_module.device), preview=True)
        gathered = cast(Tensor, pl_module.all_gather(samples))  # (world, n, C, H, W), or (n, C, H, W) alone
        if trainer.world_size > 1:
            gathered = gathered.transpose(0, 1).flatten(0, 1)
        self._publish(trainer, gathered[: self.count].cpu())

    def _padded(self, trainer: Trainer) -> int:
        """The count, made divisible by the ranks."""
        return -(-self.count // trainer.world_size) * trainer.world_size

    @rank_zero_only
    def _publish(self, trainer: Trainer, samples: Tensor) -> None:
        preview = getattr(trainer.datamodule, "preview", None)  # type: ignore[attr-defined]
        shown = samples
        if preview is not None:
            shots = preview(self.columns).cpu()
            blank = samples.new_ones(-len(shots) % self.columns, *samples.shape[1:])
            shown = torch.cat([shots, blank, samples])
        grid = make_grid(shown, nrow=self.columns, padding=2, pad_value=1.0)
        write_png(
            to_uint8(grid[None])[0], Path(trainer.default_root_dir) / "samples" / f"step={trainer.global_step:08d}.png"
        )
        for logger in trainer.loggers:
            log_image = getattr(logger, "log_image", None)
            if log_image is not None:
                log_image(key="samples", images=[(grid + 1) / 2], step=trainer.global_step)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("samples", ((grid + 1) / 2).clamp(0, 1), trainer.global_step)
