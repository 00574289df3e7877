"""Training in which timesteps and noise go by the picture, so that sharing pictures out over ranks changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenshot.datamodules import Pictures, SyntheticFaces
from tenshot.datamodules.batches import Batch, Source
from tenshot.distributed.seeding import SeededNoise
from tenshot.lightning_modules import DDPMPA
from tenshot.lightning_modules.denoised import Denoised


@dataclass
class Numbered:
    """Drawn faces whose label is their number."""

    count: int
    first: int = 0

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> Batch:
        numbers = [self.first + index for index in indices]
        return SyntheticFaces(image_size=16).train_source.read(numbers) | {"label": torch.tensor(numbers)}


class NumberedFaces(Pictures):
    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size, image_size=16, seed=0, flip=True, num_workers=0)

    def sources(self) -> tuple[Source, Source | None]:
        return Numbered(10), Numbered(5, first=10)


class ByPicture(DDPMPA):
    """Draws timestep and noise by the picture's number, so that sharing pictures out changes nothing."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.numbers = batch["label"]
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.numbers = batch["label"]
        super().validation_step(batch, batch_idx)

    def denoise(self, x: Tensor, t: Tensor, noise: Tensor, labels: Tensor | None) -> Denoised:
        source = SeededNoise(self.numbers, x.device)
        return super().denoise(x, source.integers(self.diffusion.num_steps), source.normal_like(x), labels)
