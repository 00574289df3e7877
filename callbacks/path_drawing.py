"""Draw the paths between latents that path metrics look at."""

from typing import cast

import torch
from einops import rearrange
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tenshot.datamodules.samples import SeedBatches
from tenshot.distributed.seeding import position_seed
from tenshot.lightning_modules import LatentGenerator
from tenshot.metrics import PathMetric
from tenshot.models.float32 import float32_inference

__all__ = ["show_paths"]

POSITION = 1
"""Sets the random numbers of positions apart from those of samples."""


def show_paths(
    metric: PathMetric, trainer: Trainer, pl_module: LightningModule, count: int, seed: int, batch_size: int
) -> None:
    """Show a metric this rank's share of the paths 0 ... count - 1.

    Path i goes from the latent of sample 2 i to that of sample 2 i + 1, with the noise of sample 2 i throughout; so it
    depends on (seed, i) alone. In full precision: TF32 rounds by more than a small step moves an image.

    Args:
        metric: What looks at them.
        trainer: Which says how many ranks there are.
        pl_module: A method with latents.
        count: How many paths there are.
        seed: Of the samples.
        batch_size: Images at a time on each device.
    """
    if not trainer.training:
        rank_zero_info(f"drawing {count} paths of {metric.images_per_path} images for {type(metric).__name__}")
    mine, at_a_time = (
        torch.arange(trainer.global_rank, count, trainer.world_size),
        max(1, batch_size // metric.images_per_path),
    )
    for batch in SeedBatches(mine, seed, at_a_time, -(-len(mine) // at_a_time)):
        first = batch["seed"] + batch["index"]  # twice the number, of the same seed
        with float32_inference(pl_module.device):
            images = _images(metric, pl_module, first.to(pl_module.device))
        metric.update(images)


def _images(metric: PathMetric, pl_module: LightningModule, first: Tensor) -> Tensor:
    """(N,) seeds  ->  (N, P, 3, H, W)"""
    generator = cast(LatentGenerator, pl_module)
    start, end = (generator.latents(seeds, metric.space) for seeds in (first, first + 1))
    latents = metric.latents(start, end, _uniform(first))
    noise = first.repeat_interleave(metric.images_per_path)
    images = generator.decode(rearrange(latents, "path point d -> (path point) d"), noise, metric.space)
    return rearrange(images, "(path point) c h w -> path point c h w", point=metric.images_per_path)


def _uniform(seeds: Tensor) -> Tensor:
    """(N,) in [0, 1), each from its own seed, and from other numbers than the latents."""
    generators = [torch.Generator().manual_seed(position_seed([POSITION, seed])) for seed in seeds.tolist()]
    return torch.stack([torch.rand((), generator=generator) for generator in generators]).to(seeds.device)
