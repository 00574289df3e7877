"""Training in which timesteps and noise go by the image, so that sharing images out over ranks changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tenshot.datamodules import ImageDataModule, SyntheticFaces
from tenshot.datamodules.batches import Batch, Source
from tenshot.diffusion import Condition, Denoised, Denoiser
from tenshot.distributed.seeding import SeededNoise
from tenshot.lightning_modules import DDPMPA


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


class NumberedFaces(ImageDataModule):
    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size, image_size=16, seed=0, flip=True, num_workers=0)

    def sources(self) -> tuple[Source, Source | None]:
        return Numbered(10), Numbered(5, first=10)


class ByImageDenoiser(Denoiser):
    """Takes timestep and noise from the numbers of the images instead of those that it is given."""

    numbers: Tensor

    def predict(self, x0: Tensor, t: Tensor, noise: Tensor, condition: Condition = None) -> Denoised:
        source = SeededNoise(self.numbers, x0.device)
        return super().predict(x0, source.integers(self.process.num_steps), source.normal_like(x0), condition)


class ByImage(DDPMPA):
    """Draws timestep and noise by the image's number, so that sharing images out changes nothing."""

    def configure_model(self) -> None:
        super().configure_model()
        plain = self.denoiser
        self.denoiser: ByImageDenoiser = ByImageDenoiser(plain.process, plain.network, plain.objective, plain.timesteps)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.denoiser.numbers = batch["condition"]["label"]
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.denoiser.numbers = batch["condition"]["label"]
        super().validation_step(batch, batch_idx)
