"""A method with latents whose images are a linear function of w: what lies between two of them is known."""

from typing import Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from tenshot.distributed.seeding import SeededNoise

SIDE, WIDTH = 16, 6


class LinearGenerator(LightningModule):
    """w = mapping z, image = weight w + noise.

    Args:
        noise: Strength of the noise.
        lr: Of a step that moves all weights; 0 to stay.
    """

    averaged: tuple[str, ...] = ("network",)

    def __init__(self, noise: float = 0.0, lr: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mapping = nn.Buffer(torch.randn(WIDTH, WIDTH, generator=generator))
        self.network = nn.Linear(WIDTH, 3 * SIDE * SIDE, bias=False)
        self.network.weight.data = 0.1 * torch.randn(3 * SIDE * SIDE, WIDTH, generator=generator)
        self.noise, self.lr = noise, lr
        self.asked: list[tuple[str, list[int]]] = []

    def latents(self, seeds: Tensor, space: Literal["z", "w"]) -> Tensor:
        z = SeededNoise(seeds, self.device).normal(WIDTH)
        return z if space == "z" else z @ self.mapping

    def decode(self, latents: Tensor, noise_seeds: Tensor, space: Literal["z", "w"]) -> Tensor:
        self.asked.append((space, noise_seeds.tolist()))
        w = latents @ self.mapping if space == "z" else latents
        source = SeededNoise(noise_seeds, self.device)
        source.normal(WIDTH)
        return self.network(w).view(-1, 3, SIDE, SIDE) + self.noise * source.normal(3, SIDE, SIDE)

    @torch.no_grad()
    def sample(self, seeds: Tensor, condition: Tensor | None = None, preview: bool = False) -> Tensor:
        return self.decode(self.latents(seeds, "w"), seeds, "w").clamp(-1, 1)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.sample(batch["seed"])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.network.weight.mean() + 0 * batch["image"].mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)
