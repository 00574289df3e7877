"""Images of a generator with latents, each a function of its seed."""

from collections.abc import Mapping
from typing import Literal, Self

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn.utils import parametrize

from tenshot.distributed.seeding import SeededNoise, in_equal_batches
from tenshot.models import StyleGAN2Generator

__all__ = ["DrawsFromLatents"]


class DrawsFromLatents(LightningModule):
    """What ``LatentGenerator`` asks for, and ``predict`` and ``test``, for a method that trains such a generator."""

    num_classes: int | None = None
    generator: StyleGAN2Generator
    truncation: float
    """How far latents go from the average one (psi); 1 is the whole way."""
    drawing: tuple[str, ...] = ("truncation",)
    """Options that ``draw_as`` takes over."""

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Draw the images that a batch of seeds asks for."""
        return {"index": batch["index"], "image": self.sample(batch["seed"])}

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Draw the images that a batch of seeds asks for."""
        return self.sample(batch["seed"])

    def draw_as(self, other: Self) -> None:
        """Take over the truncation."""
        self.truncation = other.truncation

    @torch.no_grad()
    def sample(self, seeds: Tensor, condition: Mapping[str, Tensor] | None = None, preview: bool = False) -> Tensor:
        """Draw images; each depends on its own seed alone.

        Args:
            seeds: (N,) int64, one an image.
            condition: None: there are no conditional ones.
            preview: Makes no difference.

        Returns:
            (N, 3, H, W) float32 in [-1, 1]
        """
        with parametrize.cached():  # low-rank changes are added to the weights once
            images = in_equal_batches(lambda part, _: self.decode(self.latents(part), part), seeds, None, self.device)
        return images.clamp(-1, 1)

    @torch.no_grad()
    def latents(self, seeds: Tensor, space: Literal["z", "w"] = "w") -> Tensor:
        """The latents that ``sample`` starts from, without truncation: (N, latent_dim)."""
        z = SeededNoise(seeds, self.device).normal(self.generator.config.latent_dim).to(self.generator.const.dtype)
        w: Tensor = z if space == "z" else self.generator.mapping(z)
        return w

    @torch.no_grad()
    def decode(self, latents: Tensor, noise_seeds: Tensor, space: Literal["z", "w"] = "w") -> Tensor:
        """The images of latents, truncated as asked for.

        Args:
            latents: (N, latent_dim)
            noise_seeds: (N,) int64, of the noise maps.
            space: Which latents.

        Returns:
            (N, 3, H, W) float32, in about [-1, 1]
        """
        generator = self.generator
        noise = SeededNoise(noise_seeds, self.device)
        noise.normal(generator.config.latent_dim)  # those are of the latents
        latents = latents.to(generator.const.dtype)
        w = generator.mapping(latents) if space == "z" else latents
        styles = generator.broadcast(generator.truncate(w, self.truncation))
        maps = [noise.normal(*shape) for shape in generator.noise_shapes]
        image: Tensor = generator.synthesis(styles, noise=maps)
        return image.float()
