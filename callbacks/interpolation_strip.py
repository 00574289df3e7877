"""Watch what lies between two latents: a smooth way, or the same image for long and then another."""

from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only
from torch import Tensor
from torchvision.utils import make_grid

from tenshot.callbacks.ema import averaged
from tenshot.callbacks.shared_drawing import DrawsNowAndThen, drawn_together, publish
from tenshot.distributed.trainer_attributes import is_trial
from tenshot.errors import InputError
from tenshot.lightning_modules import LatentGenerator
from tenshot.metrics.latent_paths import interpolate

__all__ = ["InterpolationStrip"]


class InterpolationStrip(DrawsNowAndThen):
    """Draw rows of images on the way from one latent to another: ``strips/step=00000500.png``, and every logger.

    Row r goes from seed 2 r to seed 2 r + 1, in equal steps and with the same noise throughout. Drawn from the averaged
    weights, every so many steps, at the end of fit, and in test. A method without latents has no strips.

    Args:
        every_n_steps: Optimiser steps between two strips; 0 for none, in test neither.
        rows: Pairs of latents.
        points: Images in a row, both ends among them.
        space: ``w`` goes straight, ``z`` along a great circle.
        seed: Of the latents.
    """

    def __init__(
        self, every_n_steps: int = 0, rows: int = 4, points: int = 8, space: Literal["z", "w"] = "w", seed: int = 0
    ) -> None:
        for name, value, least in (
            ("every_n_steps", every_n_steps, 0), ("rows", rows, 1), ("points", points, 2), ("seed", seed, 0),
        ):  # fmt: skip
            if value < least:
                raise InputError(f"--strip.{name} is {value}: choose at least {least}")
        super().__init__(every_n_steps)
        self.rows, self.points, self.space, self.seed = rows, points, space, seed
        self._step_of_checkpoint = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Say so where there is nothing to draw."""
        if self.every_n_steps and stage in ("fit", "test") and not isinstance(pl_module, LatentGenerator):
            rank_zero_info(f"no strips: {type(pl_module).__name__} has no latents to go between")

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note its step, which the trainer does not know in a test."""
        self._step_of_checkpoint = checkpoint["global_step"]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what is tested."""
        if self.every_n_steps and not is_trial(trainer):
            self.draw(trainer, pl_module, self._step_of_checkpoint)

    def draw(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """A strip, if the method has latents."""
        if not isinstance(pl_module, LatentGenerator):
            return

        def images_of(numbers: Tensor) -> Tensor:
            generator, row = cast(LatentGenerator, pl_module), numbers // self.points
            t = (numbers % self.points).to(pl_module.device) / (self.points - 1)
            first = (2 * row + (self.seed << 32)).to(pl_module.device)
            start, end = (generator.latents(seeds, self.space) for seeds in (first, first + 1))
            return generator.decode(interpolate(start, end, t, self.space), first, self.space).clamp(-1, 1)

        with torch.no_grad(), averaged(trainer, pl_module):
            images = drawn_together(trainer, pl_module, self.rows * self.points, images_of)
        self._publish(trainer, images, step)

    @rank_zero_only
    def _publish(self, trainer: Trainer, images: Tensor, step: int) -> None:
        publish(trainer, make_grid(images, nrow=self.points, padding=2, pad_value=1.0), "strips", step)
