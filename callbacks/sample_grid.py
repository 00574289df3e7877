"""Watch a run: a grid of samples from the same noise, next to the images it learns from."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from tenshot.callbacks.ema import averaged
from tenshot.callbacks.shared_drawing import DrawsNowAndThen, drawn_together, publish
from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.datamodules.conditions import ConditionOf, Conditions, Labels
from tenshot.datamodules.pixels import as_colours, from_pixels
from tenshot.errors import check_range
from tenshot.lightning_modules import ImageGenerator

__all__ = ["SampleGrid"]

GAP = 2  # pixels
FONT, SMALLEST_FONT = 16, 10  # pixels


class SampleGrid(DrawsNowAndThen):
    """Draw the same seeds every so many steps: ``samples/step=00000500.png`` in the run's folder, and every logger.

    The upper rows are the first training images (the shots), the lower ones samples from the averaged weights; of a
    super-resolution stage the upper ones are the low-resolution images that the lower ones are drawn from. Samples that
    are drawn from condition images stand below these, of which three channels are shown, and above the true images;
    small images that are enlarged are between.

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
        self._true_images: Callable[[Tensor], Tensor] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See that the method has the conditions that are asked for.

        Raises:
            InputError: It has not.
        """
        if self.every_n_steps and hasattr(pl_module, "sample"):
            data = getattr(trainer, "datamodule", None)
            conditions = replace(self.conditions, data=data)
            self._condition_of, self._true_images = conditions.of(pl_module), conditions.true_images(pl_module)

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
        preview = getattr(trainer.datamodule, "preview", None)  # type: ignore[attr-defined]
        return None if preview is None else preview(self.columns).cpu()

    def _panel(self, samples: Tensor) -> Tensor | None:
        """Rows of condition images, of small images that are enlarged, of samples and of true images; none of methods
        without condition images.
        """
        numbers = torch.arange(self.count)
        condition = self._condition_of(numbers) if self._condition_of else {}
        if CONDITION_IMAGE not in condition:
            return None
        seen = from_pixels(as_colours(condition[CONDITION_IMAGE]))
        rows = {"condition": F.interpolate(seen, samples.shape[-2:], mode="nearest")}
        if "low_res" in condition:
            rows["low res"] = F.interpolate(condition["low_res"], samples.shape[-2:], mode="nearest")
        rows["sample"] = samples
        if self._true_images is not None:
            rows["truth"] = from_pixels(self._true_images(numbers))
        columns = min(self.columns, self.count)
        blank = samples.new_ones(-self.count % columns, *samples.shape[1:])
        parts = [torch.cat([images, blank]).split(columns) for images in rows.values()]
        return beside_labels([row for together in zip(*parts, strict=True) for row in together], list(rows))

    @rank_zero_only
    def _publish(self, trainer: Trainer, samples: Tensor, step: int) -> None:
        panel = self._panel(samples)
        if panel is not None:
            publish(trainer, panel, "samples", step)
            return
        above, shown = self._above(trainer, samples), samples
        if above is not None:
            blank = samples.new_ones(-len(above) % self.columns, *samples.shape[1:])
            shown = torch.cat([above, blank, samples])
        grid = make_grid(shown, nrow=self.columns, padding=GAP, pad_value=1.0)
        publish(trainer, grid, "samples", step)


def beside_labels(rows: Sequence[Tensor], labels: Sequence[str]) -> Tensor:
    """Rows of images, to the left of each what it shows.

    Args:
        rows: Each (N, 3, H, W) in [-1, 1].
        labels: Of the first rows, again and again.

    Returns:
        (3, height, width) in [-1, 1]
    """
    grid = make_grid(torch.cat(list(rows)).cpu(), nrow=len(rows[0]), padding=GAP, pad_value=1.0)
    tile = rows[0].shape[-2]
    font = ImageFont.load_default(max(SMALLEST_FONT, min(FONT, tile // 2)))
    words = Image.new("L", (2 * GAP + round(max(font.getlength(label) for label in labels)), grid.shape[-2]), 255)
    pen = ImageDraw.Draw(words)
    for number in range(len(rows)):
        middle = GAP + (tile + GAP) * number + tile // 2
        pen.text((GAP, middle), labels[number % len(labels)], 0, font, anchor="lm")
    told = from_pixels(torch.from_numpy(np.array(words)))
    return torch.cat([told.expand(3, -1, -1), grid], dim=2)
