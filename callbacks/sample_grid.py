"""Watch a run: a grid of samples from the same noise, next to the images it learns from."""

from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torchvision.utils import make_grid

from tenshot.callbacks.ema import averaged
from tenshot.callbacks.shared_drawing import DrawsNowAndThen, drawn_together, publish
from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.datamodules.conditions import ConditionOf, Conditions, Labels
from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import check_range
from tenshot.lightning_modules import ImageGenerator

__all__ = ["SampleGrid"]


class SampleGrid(DrawsNowAndThen):
    """Draw the same seeds every so many steps: ``samples/step=00000500.png`` in the run's folder, and every logger.

    The upper rows are the first training images (the shots), the lower ones samples from the averaged weights; of a
    super-resolution stage the upper ones are the low-resolution images that the lower ones are drawn from; likewise
    condition images, of which three channels are shown.

    Args:
        every_n_steps: Optimiser steps between two grids; there is one at the end too. 0 for none.
        count: Samples in the grid.
        columns: Images in a row.
        seed: Of the samples.
        label: Draw this class only, of a model that has classes.
        labels: ``uniform``: sample i is of class i mod K; ``random``: drawn by each sample's own seed, as it is where
            neither option is given.
    """

    def __init__(
        self,
        every_n_steps: int = 500,
        count: int = 20,
        columns: int = 10,
        seed: int = 0,
        label: int | None = None,
        labels: Labels | None = None,
    ) -> None:
        super().__init__(every_n_steps)
        for name, value, least in (("count", count, 1), ("columns", columns, 1), ("seed", seed, 0)):
            check_range(f"--grid.{name}", value, least)
        self.count, self.columns, self.seed = count, columns, seed
        self.conditions = Conditions("grid", label, labels)
        self._condition_of: ConditionOf | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See that the method has the conditions that are asked for.

        Raises:
            InputError: It has not.
        """
        if self.every_n_steps and hasattr(pl_module, "sample"):
            data = getattr(trainer, "datamodule", None)
            self._condition_of = replace(self.conditions, data=data).of(pl_module)

    def draw(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """A grid, if the method draws images: a classifier does not."""
        if not hasattr(pl_module, "sample"):
            return

        def samples_of(numbers: Tensor) -> Tensor:
            condition = self._condition_of(numbers) if self._condition_of else None
            seeds, condition = move_data_to_device((numbers + (self.seed << 32), condition), pl_module.device)
            return cast(ImageGenerator, pl_module).sample(seeds, condition, preview=True)

        with averaged(trainer, pl_module):
            samples = drawn_together(trainer, pl_module, self.count, samples_of)
        self._publish(trainer, samples, step)

    def _above(self, trainer: Trainer, samples: Tensor) -> Tensor | None:
        """What the samples are to be compared with."""
        condition = self._condition_of(torch.arange(self.count)) if self._condition_of else {}
        if "low_res" in condition:
            return F.interpolate(condition["low_res"], samples.shape[-2:], mode="nearest")
        if CONDITION_IMAGE in condition:
            seen = from_pixels(condition[CONDITION_IMAGE][:, :3])
            return F.interpolate(seen.expand(-1, samples.shape[1], -1, -1), samples.shape[-2:], mode="nearest")
        preview = getattr(trainer.datamodule, "preview", None)  # type: ignore[attr-defined]
        return None if preview is None else preview(self.columns).cpu()

    @rank_zero_only
    def _publish(self, trainer: Trainer, samples: Tensor, step: int) -> None:
        above, shown = self._above(trainer, samples), samples
        if above is not None:
            blank = samples.new_ones(-len(above) % self.columns, *samples.shape[1:])
            shown = torch.cat([above, blank, samples])
        grid = make_grid(shown, nrow=self.columns, padding=2, pad_value=1.0)
        publish(trainer, grid, "samples", step)
