"""Images of a diffusion model, each a function of its seed and of its condition."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from tenshot.diffusion import Condition, Denoiser, GaussianDiffusion
from tenshot.diffusion.samplers import Progress
from tenshot.distributed.seeding import SeededNoise, in_equal_batches
from tenshot.errors import InputError
from tenshot.lightning_modules.drawing import evaluating
from tenshot.lightning_modules.guidance import ClassifierFreeGuidance, ClassifierGuidance, FrozenClassifier
from tenshot.lightning_modules.sampler import Sampler
from tenshot.models import UNet

__all__ = ["DrawsFromNoise"]


class DrawsFromNoise(LightningModule):
    """What ``ImageGenerator`` asks for, and ``predict`` and ``test``, for a method that trains a denoiser."""

    unet: UNet
    diffusion: GaussianDiffusion
    sampler: Sampler
    """How images are drawn."""
    preview_sampler: Sampler
    """How the grids during training are drawn."""
    guidance: ClassifierGuidance | None = None
    """By which classifier, and how strongly."""
    guide: FrozenClassifier | None = None
    """What pulls them towards classes, once it is built."""
    classifier_free: ClassifierFreeGuidance | None = None
    """How strongly they are pulled away from what is drawn without a condition."""
    drop_option = "label_drop 0.1"
    """With which option of training a network learns to draw without its condition."""
    progress: Progress | None = None
    """Called after each step of drawing with (steps done, all steps, estimate of the clean images); on a CPU of batches
    that are filled up."""
    drawing: tuple[str, ...] = ("sampler", "guidance.scale", "classifier_free")
    """Options that ``draw_as`` takes over."""

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Draw the images that a batch of seeds asks for."""
        return {"index": batch["index"], "image": self.sample(batch["seed"], batch.get("condition"))}

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Draw the images that a batch of seeds asks for."""
        return self.sample(batch["seed"], batch.get("condition"))

    @property
    def num_classes(self) -> int | None:
        """How many classes there are to draw from; none for an unconditional and unguided model."""
        return self.guide.num_classes if self.guide else self.unet.config.num_classes

    def draw_as(self, other: Self) -> None:
        """Take over sampler and strength of guidance.

        Raises:
            InputError: The sampler asks for steps that the process does not have, or the network cannot be guided so.
        """
        self.sampler = other.sampler.for_process(self.drawn_process)
        self.classifier_free = other.classifier_free
        self.refuse_unguidable()
        if self.guide is not None and other.guidance is not None:
            self.guide.scale = other.guidance.scale

    def sample(self, seeds: Tensor, condition: Condition = None, preview: bool = False) -> Tensor:
        """Draw images; each depends on its own seed and condition alone.

        Args:
            seeds: (N,) int64, one an image.
            condition: ``label``: (N,) int64, for a conditional or guided model; drawn uniformly where not given.
            preview: Draw with preview_sampler.

        Returns:
            (N, C, H, W) float32 in [-1, 1]
        """
        return self.sample_from(self.unet, seeds, condition, preview)

    @torch.no_grad()
    def sample_from(
        self, network: nn.Module, seeds: Tensor, condition: Condition = None, preview: bool = False
    ) -> Tensor:
        """The same from another network of this architecture and process."""
        return self._sample(network, self.preview_sampler if preview else self.sampler, 0, seeds, condition)

    @torch.no_grad()
    def sample_noisy(self, seeds: Tensor, s: int, condition: Condition = None) -> Tensor:
        """Images in which as much noise is left as the first s steps of the process make, to be enlarged.

        Their chains are those of ``sample``, stopped; not with the sampler dpm_solver.

        Args:
            seeds: (N,) int64, one an image.
            s: 1 … num_steps.
            condition: As for ``sample``.

        Returns:
            (N, C, H, W) float32, not clamped
        """
        return self._sample(self.unet, self.sampler, s, seeds, condition)

    def _sample(self, network: nn.Module, sampler: Sampler, s: int, seeds: Tensor, condition: Condition) -> Tensor:
        draw = partial(self._draw, Denoiser(self.drawn_process, network), sampler, s)
        with evaluating(network):
            return in_equal_batches(draw, seeds, condition, self.device)

    def _draw(
        self, denoiser: Denoiser, sampler: Sampler, s: int, seeds: Tensor, condition: Mapping[str, Tensor]
    ) -> Tensor:
        config, noise = self.unet.config, SeededNoise(seeds, self.device)
        if self.num_classes is not None and "label" not in condition:
            condition = {**condition, "label": noise.integers(self.num_classes)}
        shape, told = (config.in_channels, config.image_size, config.image_size), self.told(seeds, condition)
        if self.classifier_free is not None and told is not None:
            denoiser = self.classifier_free.guided(denoiser, self.null(told))
        if self.guide is not None:
            denoiser = self.guide.guided(denoiser, condition["label"])
        images = sampler(denoiser, noise, shape, told, progress=self.progress, start=self.start(condition), s=s)
        return images.clamp(-1, 1) if s == 0 else images

    def refuse_unguidable(self) -> None:
        """Make sure that the network can be guided as configured.

        Raises:
            InputError: It always was told its condition, or the process is shorter than the interval of guidance.
        """
        if self.classifier_free is None:
            return
        if not self.knows_null:
            raise InputError(
                "--model.classifier_free is of a network that was trained with and without its condition, this one was "
                f"not: train it with {self.drop_option}, or leave it out"
            )
        self.classifier_free.refuse_other_process(self.diffusion.config)

    # What a method with other conditions changes

    @property
    def knows_null(self) -> bool:
        """Whether the network can draw without its condition."""
        return self.unet.config.null_class

    def null(self, told: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What the network is told where it draws without its condition, in place of those entries of ``told``."""
        return {"label": torch.full_like(told["label"], self.unet.config.num_classes or 0)}

    @property
    def drawn_process(self) -> GaussianDiffusion:
        """The process that is undone to draw an image."""
        return self.diffusion

    def told(self, seeds: Tensor, condition: Mapping[str, Tensor]) -> Condition:
        """What the network is told at every step; what depends on the condition alone is computed here, once."""
        return condition if self.unet.config.num_classes is not None else {}

    def prepared(self, condition: Condition) -> Condition:
        """What the network is told, with what does not depend on x nor t computed, for many evaluations."""
        return condition

    def start(self, condition: Mapping[str, Tensor]) -> Tensor | None:
        """Images (N, C, H, W) to begin from, which the process noises first; none: from noise alone."""
        return None
