"""Write drawn pictures as numbered PNG files."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from tenshot.errors import InputError

__all__ = ["ImageWriter", "to_uint8", "write_png"]


def to_uint8(images: Tensor) -> Tensor:
    """float (N, C, H, W) in [-1, 1] -> uint8 (N, H, W, C), rounded as the metrics round, so that files lose nothing."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def write_png(pixels: Tensor, path: Path) -> None:
    """Write uint8 (H, W, 3) or (H, W, 1); the file appears whole or not at all.

    Raises:
        InputError: The folder cannot be written or the disk is full.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.squeeze(-1).numpy()).save(partial, format="PNG")
        partial.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: could not be written ({error.strerror or error}): free space or choose another folder"
        ) from None


class ImageWriter(Callback):
    """Write what ``tenshot predict`` draws as ``000000.png``, ``000001.png``, …; a second run adds what is missing.

    Args:
        dir: Folder to write to; by default ``images`` in the run's folder.
        count: Number of pictures; picture i depends on (seed, i) alone.
        batch_size: Pictures drawn together on each device.
        seed: Seed of the set.
    """

    def __init__(self, dir: str | None = None, count: int = 64, batch_size: int = 32, seed: int = 0) -> None:
        for name, value, least in (("count", count, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise InputError(f"images.{name} is {value}: choose at least {least}")
        self.dir, self.count, self.batch_size, self.seed = dir, count, batch_size, seed

    def folder(self, trainer: Trainer) -> Path:
        """Where the pictures go."""
        return Path(self.dir) if self.dir else Path(trainer.default_root_dir) / "images"

    def written(self, trainer: Trainer) -> set[int]:
        """Numbers of the pictures that are there already."""
        return {int(path.stem) for path in self.folder(trainer).glob("*.png") if path.stem.isdigit()}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a batch."""
        for index, pixels in zip(outputs["index"].tolist(), to_uint8(outputs["image"]), strict=True):
            write_png(pixels, self.folder(trainer) / f"{index:06d}.png")
