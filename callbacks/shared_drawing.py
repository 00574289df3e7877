"""Images for looking at: now and then, drawn by all ranks together, written as a file and given to every logger."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from einops import rearrange
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor

from tenshot.callbacks.image_writer import to_uint8, write_png
from tenshot.callbacks.throughput import paused
from tenshot.datamodules.conditions import ConditionOf
from tenshot.datamodules.samples import SeedBatches
from tenshot.distributed.trainer_attributes import is_trial
from tenshot.lightning_modules.drawing import in_precision
from tenshot.run.best_effort import best_effort

__all__ = ["DrawsNowAndThen", "drawn_share", "drawn_together", "publish"]


class DrawsNowAndThen(Callback):
    """Draw every so many steps and at the end of fit, once a step.

    Args:
        every_n_steps: Optimiser steps between two drawings; 0 for none.
    """

    def __init__(self, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._drawn_step = -1

    @abstractmethod
    def draw(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Draw and publish; called on all ranks."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A resumed run has the drawing of the step it was loaded from."""
        self._drawn_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw when it is time."""
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._draw_once(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the end."""
        if self.every_n_steps:
            self._draw_once(trainer, pl_module)

    def _draw_once(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == self._drawn_step or is_trial(trainer):
            return
        self._drawn_step = trainer.global_step
        with paused(trainer):
            self.draw(trainer, pl_module, trainer.global_step)


def drawn_together(
    trainer: Trainer, pl_module: LightningModule, count: int, draw: Callable[[Tensor], Tensor]
) -> Tensor:
    """Let every rank draw its share of some numbered images, in the trainer's precision. To be called on all ranks.

    Args:
        trainer: Which says how many ranks there are.
        pl_module: Which knows how to gather.
        count: How many images; each rank draws as many as the others, so some numbers may go beyond.
        draw: (n,) int64, numbers of images  ->  (n, C, H, W).

    Returns:
        (count, C, H, W), on the CPU
    """
    padded = -(-count // trainer.world_size) * trainer.world_size
    with in_precision(pl_module):
        drawn = draw(torch.arange(trainer.global_rank, padded, trainer.world_size))
    gathered = cast(Tensor, pl_module.all_gather(drawn))  # without a process group as it was
    if gathered.dim() > drawn.dim():
        gathered = rearrange(gathered, "rank n c h w -> (n rank) c h w")
    return gathered[:count].cpu()


def publish(trainer: Trainer, image: Tensor, key: str, step: int) -> None:
    """Write ``<key>/step=00000500.png`` in the run's folder, and give the image to every logger. On rank 0.

    image: (C, H, W) in [-1, 1]
    """
    path = Path(trainer.default_root_dir) / key / f"step={step:08d}.png"
    pixels = to_uint8(image[None])[0]
    with best_effort(str(path.parent)) if trainer.training else nullcontext():
        write_png(pixels, path)
    for logger in trainer.loggers:
        log_image = getattr(logger, "log_image", None)
        if log_image is not None:
            whole = Image.fromarray(pixels.squeeze(-1).numpy())  # of a tensor, W&B would guess the range
            log_image(key=key, images=[whole], step=step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, pixels.numpy(), step, dataformats="HWC")


def drawn_share(
    trainer: Trainer,
    draw: Callable[[Tensor, Any], Tensor],
    count: int,
    seed: int,
    batch_size: int,
    condition_of: ConditionOf | None,
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """This rank's share of some samples, in the precision of the trainer.

    Args:
        trainer: Which says how many ranks there are.
        draw: Seeds (N,) and their condition  ->  images (N, C, H, W).
        count: How many samples there are.
        seed: Of the samples.
        batch_size: Images at a time.
        condition_of: The condition of samples by their numbers.

    Yields:
        Images, and the batch that asked for them.
    """
    module = trainer.lightning_module
    mine = torch.arange(trainer.global_rank, count, trainer.world_size)
    for wanted in SeedBatches(mine, seed, batch_size, -(-len(mine) // batch_size), condition_of):
        batch = move_data_to_device(wanted, module.device)
        with in_precision(module):
            images = draw(batch["seed"], batch.get("condition"))
        yield images, batch
