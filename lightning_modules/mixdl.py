"""MixDL: a smooth latent space from about ten images, without a source model (arXiv 2111.11672)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tenshot.errors import InputError, check_range
from tenshot.lightning_modules.adversarial import Player, Terms
from tenshot.lightning_modules.gan import GAN
from tenshot.losses import (
    mixing_coefficients,
    mixup_distance_loss,
    nonsaturating_discriminator_loss,
    nonsaturating_generator_loss,
)
from tenshot.losses.cross_domain import RowReduction
from tenshot.losses.mixup import Mixing, MixupDirection
from tenshot.models import PatchHeads
from tenshot.models.stylegan2.layers import EqualLinear

__all__ = ["MixDL", "Mixup"]


@dataclass(frozen=True)
class Mixup:
    """What MixDL adds to StyleGAN2. The defaults are those of the first public release, the closest to the paper's.

    Args:
        generator: Weight of the generator's distance loss.
        discriminator: Weight of the discriminator's.
        every: One step in so many mixes latents; the others are StyleGAN2's.
        release: Which steps mix: those of ``first``, the odd ones of every two, so that the gradient penalty is on
            whole images; or those of ``head``, the even ones, so that it is on patches.
        coefficients: How latents are mixed: ``dirichlet``; ``gaussian``: softmax of normal numbers; ``uniform``
            numbers over their sum.
        concentration: Of the Dirichlet distribution.
        projection: Compare the discriminator's features after a linear layer of their own.
        taps: How many layers of the discriminator patches are judged at, one drawn for each call: 1 to 4.
        tap_size: Side of the first two of these layers' maps, the other two have half: a power of two; the code's is
            32 at any size. None: an eighth of the image's, but at least 16, which at 256 px is the same.
        direction: Under which distribution the divergence is taken; the paper writes ``similarities||coefficients``.
        reduction: The code's ``mean`` over pairs; ``batchmean`` over mixed latents; ``sum``.
    """

    generator: float = 1000.0
    discriminator: float = 1.0
    every: int = 2
    release: Literal["first", "head"] = "first"
    coefficients: Mixing = "dirichlet"
    concentration: float = 1.0
    projection: bool = True
    taps: int = 4
    tap_size: int | None = None
    direction: MixupDirection = "coefficients||similarities"
    reduction: RowReduction = "mean"

    def __post_init__(self) -> None:
        for name in ("generator", "discriminator"):
            check_range(f"--model.mixup.{name}", getattr(self, name), 0)
        check_range("--model.mixup.every", self.every, 1)
        check_range("--model.mixup.concentration", self.concentration, 0, above=True)
        check_range("--model.mixup.taps", self.taps, 1, 4)

    def mixes_at(self, step: int) -> bool:
        """Whether that step mixes latents; it is then that patches are judged."""
        turn = step % self.every
        return turn == (0 if self.release == "head" else self.every - 1)


class MixDL(GAN):
    """Train a StyleGAN2 on about ten images so that mixed latents give images in between.

    Args:
        mixup: What is added to StyleGAN2.
    """

    def __init__(self, mixup: Mixup = Mixup(), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mixup = mixup
        self.heads: PatchHeads
        self.projection: nn.Module

    def build(self) -> None:
        """Also make the patch heads and the projection.

        Raises:
            InputError: The images are too small for patches.
        """
        super().build()
        assert self.config is not None
        self.heads = PatchHeads(self.config, self.mixup.taps, self.mixup.tap_size)
        width = self.config.width(4)
        self.projection = EqualLinear(width, width) if self.mixup.projection else nn.Identity()

    def players(self) -> Mapping[Player, Sequence[nn.Module]]:
        """The modules that each optimiser trains; heads and projection have the discriminator's settings."""
        return {"generator": [self.generator], "discriminator": [self.discriminator, self.heads, self.projection]}

    def check_batch(self, batch: int, part: int) -> None:
        """Also refuse what cannot be mixed.

        Raises:
            InputError: The sizes do not divide, or there is a single image, or three.
        """
        super().check_batch(batch, part)
        if part < 2 or part == 3:  # it also judges mixes and what they are of together, 6 images of 3
            raise InputError(
                f"MixDL mixes the latents of a micro-batch, which has {part} (--data.batch_size, --model.micro_batch): "
                "give it 2, or a multiple of 4"
            )

    def phases(self, step: int) -> tuple[bool, bool, bool]:
        """Which phases a step has: R1, path length; and whether latents are mixed and patches judged."""
        rest = self.regularization
        with_r1 = rest.r1 > 0 and step % rest.r1_every == 0
        return with_r1, rest.path_length > 0 and step % rest.path_length_every == 0, self.mixup.mixes_at(step)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Terms:
        """StyleGAN2's step, or the same with mixed latents: patches are judged then, and distances compared."""
        step, images = self.trainer.global_step, batch["image"]
        parts = images.split(self.micro_batch or len(images))
        with_r1, with_path_length, mixes = self.phases(step)
        d_terms, g_terms, discriminate = self.discriminator_terms, self.generator_terms, self.discriminate
        if mixes:
            d_terms, g_terms = self.mixed_discriminator_terms, self.mixed_generator_terms
            discriminate = self.discriminate_patches
        terms = self.optimise("discriminator", [partial(d_terms, real) for real in parts])
        self.adjust_augmentation(step)
        if with_r1:
            terms |= self.optimise("discriminator", [partial(self.r1_terms, real, discriminate) for real in parts])
        terms |= self.optimise("generator", [partial(g_terms, len(real)) for real in parts], counted=True)
        if with_path_length:
            terms |= self.optimise("generator", [partial(self.path_length_terms, len(real)) for real in parts])
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return {"loss": torch.stack(list(terms.values())).sum()} | terms

    def discriminator_terms(self, real: Tensor) -> Terms:
        """Tell real images (N, 3, H, W) from as many drawn ones."""
        with torch.no_grad():
            fake = self.generator.synthesis(self.styles(len(real)))
        both = torch.cat([self.augmentation(real), self.augmentation(fake)])
        real_logits, fake_logits = self.discriminator(both, batches=2).chunk(2)
        self.observe(real_logits)
        return {"discriminator": nonsaturating_discriminator_loss(real_logits, fake_logits)}

    def generator_terms(self, count: int) -> Terms:
        """Draw images that are taken for real ones."""
        logits = self.discriminator(self.augmentation(self.generator.synthesis(self.styles(count))))
        return {"generator": nonsaturating_generator_loss(logits)}

    def mixed_discriminator_terms(self, real: Tensor) -> Terms:
        """Tell real images from those of mixed latents, and place these among the unmixed by their coefficients."""
        count = len(real)
        with torch.no_grad():
            w, coefficients = self.latents_of_noise(count), self._coefficients(count)
            plain, mixed = self._images(w), self._images(self._mixed(coefficients, w))
        real_logits, mixed_logits = self.discriminate_patches(self.augmentation(real), self.augmentation(mixed))
        self.observe(real_logits)
        terms = {"discriminator": nonsaturating_discriminator_loss(real_logits, mixed_logits)}
        if self.mixup.discriminator:
            seen = self.augmentation(torch.cat([plain, mixed]))  # one batch: its images are compared in groups
            with torch.autocast(self.device.type, enabled=False):
                placed = self.projection(self.discriminator.penultimate(seen))
            distance = self._distance(placed[count:], placed[:count], coefficients)
            terms["distance_d"] = self.mixup.discriminator * distance
        return terms

    def mixed_generator_terms(self, count: int) -> Terms:
        """Draw images of mixed latents that are taken for real; and new ones, mixed alike, that lie in between."""
        coefficients = self._coefficients(count)
        [logits] = self.discriminate_patches(
            self.augmentation(self._images(self._mixed(coefficients, self.latents_of_noise(count))))
        )
        terms = {"generator": nonsaturating_generator_loss(logits)}
        if self.mixup.generator:
            w = self.latents_of_noise(count)
            inner = range(1, self.generator.config.num_layers - 1)  # neither the constant's nor the last
            layers = self.choices.choices(inner, k=count)
            plain, mixed = (self._features(x) for x in (w, self._mixed(coefficients, w)))
            terms["distance_g"] = self.mixup.generator * self._distance(mixed, plain, coefficients, layers)
        return terms

    def discriminate_patches(self, *images: Tensor) -> Sequence[Tensor]:
        """Logits (N, 1, h, w) of patches of each batch, at a layer drawn for it."""
        taps = (self.choices.randrange(self.mixup.taps) for _ in images)
        return [self.heads(self.discriminator, batch, tap) for batch, tap in zip(images, taps, strict=True)]

    def _distance(
        self,
        mixed: Tensor | list[Tensor],
        plain: Tensor | list[Tensor],
        coefficients: Tensor,
        layers: list[int] | None = None,
    ) -> Tensor:
        ours = self.mixup
        return mixup_distance_loss(
            mixed, plain, coefficients, layers, direction=ours.direction, reduction=ours.reduction
        )

    def _mixed(self, coefficients: Tensor, w: Tensor) -> Tensor:
        """Latents (N, D) mixed by rows (A, N) -> (A, D) in their dtype: autocast would round them."""
        with torch.autocast(w.device.type, enabled=False):
            return coefficients.to(w.dtype) @ w

    def _coefficients(self, count: int) -> Tensor:
        """(count, count), rows sum to 1."""
        return mixing_coefficients(count, self.mixup.coefficients, self.mixup.concentration, self.device)

    def _images(self, w: Tensor) -> Tensor:
        images: Tensor = self.generator.synthesis(self.generator.broadcast(w))
        return images

    def _features(self, w: Tensor) -> list[Tensor]:
        layers: list[Tensor] = self.generator.synthesis(self.generator.broadcast(w), features=True)[1]
        return layers
