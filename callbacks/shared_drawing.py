"""Pictures for looking at: drawn by all ranks together, written as a file and given to every logger."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from tenshot.callbacks.image_writer import to_uint8, write_png
from tenshot.callbacks.tolerance import tolerated

__all__ = ["drawn_together", "publish"]


def drawn_together(
    trainer: Trainer, pl_module: LightningModule, count: int, draw: Callable[[Tensor], Tensor]
) -> Tensor:
    """Let every rank draw its share of some numbered pictures. To be called on all ranks.

    Args:
        trainer: Which says how many ranks there are.
        pl_module: Which knows how to gather.
        count: How many pictures; each rank draws as many as the others, so some numbers may go beyond.
        draw: (n,) int64, numbers of pictures  ->  (n, C, H, W).

    Returns:
        (count, C, H, W), on the CPU
    """
    padded = -(-count // trainer.world_size) * trainer.world_size
    drawn = draw(torch.arange(trainer.global_rank, padded, trainer.world_size))
    gathered = cast(Tensor, pl_module.all_gather(drawn))  # (world, n, C, H, W), or (n, C, H, W) without a process group
    if gathered.dim() > drawn.dim():
        gathered = gathered.transpose(0, 1).flatten(0, 1)
    return gathered[:count].cpu()


def publish(trainer: Trainer, picture: Tensor, key: str, step: int) -> None:
    """Write ``<key>/step=00000500.png`` in the run's folder, and give the picture to every logger. On rank 0.

    picture: (C, H, W) in [-1, 1]
    """
    path = Path(trainer.default_root_dir) / key / f"step={step:08d}.png"
    with tolerated(str(path.parent)) if trainer.training else nullcontext():
        write_png(to_uint8(picture[None])[0], path)
    for logger in trainer.loggers:
        log_image = getattr(logger, "log_image", None)
        if log_image is not None:
            log_image(key=key, images=[(picture + 1) / 2], step=step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, ((picture + 1) / 2).clamp(0, 1), step)
