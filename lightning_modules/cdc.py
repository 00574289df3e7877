"""CDC: few-shot adaptation by cross-domain correspondence (arXiv 2104.06820)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from tenshot.checkpoints import STYLEGAN2, FrozenSource, read
from tenshot.distributed.seeding import position_seed, run_seed
from tenshot.errors import InputError, check_range
from tenshot.lightning_modules.adversarial import Player, Terms
from tenshot.lightning_modules.gan import GAN, Discriminate
from tenshot.losses import (
    cross_domain_distance_loss,
    nonsaturating_discriminator_loss,
    nonsaturating_generator_loss,
)
from tenshot.losses.cross_domain import RowReduction
from tenshot.losses.ddpm_pa import Direction
from tenshot.models import PatchHeads, StyleGAN2Generator

__all__ = ["CDC", "Correspondence"]


@dataclass(frozen=True)
class Correspondence:
    """What CDC adds to StyleGAN2. The defaults are the published code's.

    Args:
        weight: Of the distance loss.
        batch_size: Latents whose images are compared with each other.
        layers: ``one`` random layer for each image, as the code does; ``all``: the sum over layers, as the paper
            writes.
        direction: Under which generator's distribution the divergence is taken; the paper: ``adapted||source``.
        reduction: The code's ``mean`` over pairs; ``batchmean`` over images; ``sum``.
        same_noise: Give both generators the same noise maps; the code draws them apart.
        anchors: Fixed latents around which whole images are judged.
        anchor_std: Deviation of the latents from their anchor; the paper's is recalled as 0.05.
        image_every: Steps between two at which whole images are judged; at the others it is patches.
        taps: How many layers of the discriminator patches are judged at, one drawn for each call: 1 to 4.
        tap_size: Side of the first two of these layers' maps, the other two have half: a power of two; the code's is
            32 at any size. None: an eighth of the image's, but at least 16, which at 256 px is the same.
    """

    weight: float = 1000.0
    batch_size: int = 4
    layers: Literal["one", "all"] = "one"
    direction: Direction = "source||adapted"
    reduction: RowReduction = "mean"
    same_noise: bool = False
    anchors: int = 10
    anchor_std: float = 0.1
    image_every: int = 4
    taps: int = 1
    tap_size: int | None = None

    def __post_init__(self) -> None:
        check_range("--model.correspondence.weight", self.weight, 0)
        check_range("--model.correspondence.anchor_std", self.anchor_std, 0)
        if self.batch_size < 3:
            raise InputError(
                f"--model.correspondence.batch_size is {self.batch_size}: it takes 3 images to compare distances"
            )
        check_range("--model.correspondence.anchors", self.anchors, 1)
        check_range("--model.correspondence.image_every", self.image_every, 1)
        check_range("--model.correspondence.taps", self.taps, 1, 4)


class CDC(GAN):
    """Adapt a StyleGAN2 to about ten images, keeping the distances between the source's images.

    Args:
        correspondence: What is added to StyleGAN2.
        source: The frozen source model, where it is another than init_from; read like it.
    """

    def __init__(
        self, correspondence: Correspondence = Correspondence(), source: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.correspondence = correspondence
        self.source = FrozenSource[StyleGAN2Generator](source or self.init_from, type(self).__name__)
        self.heads: PatchHeads
        self.anchors: Tensor

    def build(self) -> None:
        """Also make the patch heads and draw the anchors.

        Raises:
            InputError: The images are too small for patches.
        """
        super().build()
        assert self.config is not None
        self.heads = PatchHeads(self.config, self.correspondence.taps, self.correspondence.tap_size)
        own = torch.Generator("cpu").manual_seed(position_seed([run_seed(), 3]))
        shape = (self.correspondence.anchors, self.generator.config.latent_dim)
        anchors = torch.randn(*shape, generator=own, device="cpu")  # the default device may be a GPU here
        self.register_buffer("anchors", anchors.to(self.generator.latent_average.device))

    def configure_callbacks(self) -> list[Callback]:
        """The source has an entry of its own in checkpoints."""
        return [self.source]

    def players(self) -> Mapping[Player, Sequence[nn.Module]]:
        """The modules that each optimiser trains; the heads have the discriminator's settings, as published."""
        return {"generator": [self.generator], "discriminator": [self.discriminator, self.heads]}

    def on_fit_start(self) -> None:
        """Read the source model.

        Raises:
            InputError: It cannot be read, does not suit the generator, or is not the one that a resumed run began with.
        """
        super().on_fit_start()
        if not self.correspondence.weight:
            return
        initial = read(self.source.file(), STYLEGAN2, self.init_weights)
        network = initial.fill("generator", StyleGAN2Generator(initial.config_for(self.config)))
        self.source.hold(network.to(self.device), initial.path, self)

    def phases(self, step: int) -> tuple[bool, bool, bool]:
        """Which phases a step has: R1, path length; and whether patches are judged or whole images."""
        rest = self.regularization
        with_r1 = rest.r1 > 0 and step % rest.r1_every == 0
        return (
            with_r1,
            rest.path_length > 0 and step % rest.path_length_every == 0,
            step % self.correspondence.image_every != 0,
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Terms:
        """StyleGAN2's step, on whole images from around the anchors or on patches of any images (section 3.2)."""
        step, images = self.trainer.global_step, batch["image"]
        parts = images.split(self.micro_batch or len(images))
        with_r1, with_path_length, patches = self.phases(step)
        draw, discriminate = self.any_images, self.discriminate_patches
        if not patches:
            draw, discriminate = self.around_anchors, self.discriminate
        d_terms = [partial(self.discriminator_terms, real, draw, discriminate) for real in parts]
        g_terms = [partial(self.generator_terms, len(real), draw, discriminate) for real in parts]
        terms = self.optimise("discriminator", d_terms)
        self.adjust_augmentation(step)
        if with_r1:
            terms |= self.optimise("discriminator", [partial(self.r1_terms, real, discriminate) for real in parts])
        terms |= self.optimise("generator", g_terms, counted=True)
        if with_path_length:
            terms |= self.optimise("generator", [partial(self.path_length_terms, len(real)) for real in parts])
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return {"loss": torch.stack(list(terms.values())).sum()} | terms

    def discriminator_terms(self, real: Tensor, draw: Callable[[int], Tensor], discriminate: Discriminate) -> Terms:
        """Tell real images (N, 3, H, W), or their patches, from as many drawn ones."""
        with torch.no_grad():
            fake = draw(len(real))
        real_logits, fake_logits = discriminate(self.augmentation(real), self.augmentation(fake))
        self.observe(real_logits)
        return {"discriminator": nonsaturating_discriminator_loss(real_logits, fake_logits)}

    def generator_terms(self, count: int, draw: Callable[[int], Tensor], discriminate: Discriminate) -> Terms:
        """Draw images that are taken for real ones, and lie to each other as the source's do."""
        [logits] = discriminate(self.augmentation(draw(count)))
        terms = {"generator": nonsaturating_generator_loss(logits)}
        if self.source.network is not None:
            terms["distance"] = self.correspondence.weight * self._distance(self.source.network)
        return terms

    def any_images(self, count: int) -> Tensor:
        """(count, 3, H, W) of random latents."""
        images: Tensor = self.generator.synthesis(self.styles(count))
        return images

    def around_anchors(self, count: int) -> Tensor:
        """(count, 3, H, W) of latents near the anchors."""
        chosen = torch.randint(len(self.anchors), (count,), device=self.device)
        z = self.anchors[chosen]
        w = self.generator.mapping(z + self.correspondence.anchor_std * torch.randn_like(z))
        images: Tensor = self.generator.synthesis(self.generator.broadcast(w))
        return images

    def discriminate_patches(self, *images: Tensor) -> Sequence[Tensor]:
        """Logits (N, 1, h, w) of patches of each batch, at a layer drawn for it."""
        taps = (self.choices.randrange(self.correspondence.taps) for _ in images)
        return [self.heads(self.discriminator, batch, tap) for batch, tap in zip(images, taps, strict=True)]

    def _distance(self, source: StyleGAN2Generator) -> Tensor:
        """How differently the images of the two generators lie to each other (section 3.1)."""
        ours = self.correspondence
        z = torch.randn(ours.batch_size, self.generator.config.latent_dim, device=self.device)
        maps = None
        if ours.same_noise:
            maps = [torch.randn(ours.batch_size, *shape, device=self.device) for shape in self.generator.noise_shapes]
        with torch.no_grad():
            theirs = features(source, z, maps)
        adapted = features(self.generator, z, maps)
        inner = range(1, self.generator.config.num_layers)  # all but the constant's
        rounds = [[layer] * ours.batch_size for layer in inner]
        if ours.layers == "one":
            rounds = [self.choices.choices(inner, k=ours.batch_size)]
        losses = [cross_domain_distance_loss(adapted, theirs, r, ours.direction, ours.reduction) for r in rounds]
        return torch.stack(losses).sum()


def features(generator: StyleGAN2Generator, z: Tensor, noise: list[Tensor] | None) -> list[Tensor]:
    """Outputs of the styled convolutions, one tensor a layer."""
    layers: list[Tensor] = generator.synthesis(generator.broadcast(generator.mapping(z)), noise=noise, features=True)[1]
    return layers
