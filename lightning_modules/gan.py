"""What the methods on StyleGAN2 share: networks and options, what is drawn, the regularisers, checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from tenshot.checkpoints import STYLEGAN2, Adapted, Weights, describe, read, refuse_other, start_from
from tenshot.distributed.seeding import step_choices
from tenshot.errors import InputError, check_range
from tenshot.lightning_modules.adversarial import AdversarialModule, GANAdam, Player, Terms, lazily
from tenshot.lightning_modules.data_checks import check_image_size
from tenshot.lightning_modules.latent_drawing import DrawsFromLatents
from tenshot.lightning_modules.optimization import build_optimizer
from tenshot.lightning_modules.regularization import Regularization
from tenshot.losses import path_length_penalty, path_lengths, r1_penalty
from tenshot.models import Adaptation, StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator
from tenshot.models.augmentation import AdaptiveAugment, DiffAugment

__all__ = ["GAN", "Discriminate"]

PUBLISHED = Regularization()
ADJUST_EVERY = 4  # steps between two moves of the augmentation's probability, as NVlabs' code does
AVERAGE_DECAY = 0.995  # of the average latent, which truncation pulls towards
Discriminate = Callable[..., Sequence[Tensor]]
"""Judges batches of images (N, 3, H, W), several of equal size or one: logits of each."""


class GAN(AdversarialModule, DrawsFromLatents):
    """A StyleGAN2 in training; how it is trained, each method writes in its ``training_step``.

    Steps (``max_steps``) are the generator's: each is one of the discriminator, one of the generator, and now and then
    one of each regulariser.

    Args:
        stylegan2: Architecture. Not needed where init_from tells it.
        init_from: Weights to start from: a checkpoint of tenshot, a file of tenshot convert, a .pt of the PyTorch port
            (also of CDC or MixDL), or a .pkl of StyleGAN2-ADA.
        init_weights: Which weights of the generator to start from, the averaged or the raw ones.
        optimizer_g: Of the generator, built from its parameters; corrected for the steps of its regulariser.
        optimizer_d: Of the discriminator, likewise.
        regularization: The regularisers.
        style_mixing: Probability that a batch mixes the styles of two latents.
        augmentation: Of all images that the discriminator sees.
        micro_batch: How many images of a batch to take at a time, to save memory; none: all of them. The
            discriminator compares the images of a micro-batch only.
        truncation: When drawing, how far latents go from the average one (psi); 1 is the whole way.
        freeze_d: How many of the discriminator's layers, from the images on, keep their weights (FreezeD, arXiv
            2002.10964), for adaptation; counted as NVlabs' --freezed does.
        adapt: Which weights of the generator are trained, of those of init_from; none: all.
        adapt_d: Of the discriminator, likewise; what freeze_d keeps is kept.
    """

    averaged = ("generator",)
    """Submodules that an EMA follows."""

    first_averages: Mapping[str, Mapping[str, Tensor]] = {}
    """What it starts from, where that is not their first weights: the averaged ones of init_from."""

    def __init__(
        self,
        stylegan2: StyleGAN2Config | None = None,
        init_from: str | None = None,
        init_weights: Weights = "raw",
        optimizer_g: OptimizerCallable = GANAdam,
        optimizer_d: OptimizerCallable = GANAdam,
        regularization: Regularization = PUBLISHED,
        style_mixing: float = 0.9,
        augmentation: DiffAugment | AdaptiveAugment | None = None,
        micro_batch: int | None = None,
        truncation: float = 1.0,
        freeze_d: int = 0,
        adapt: Adaptation | None = None,
        adapt_d: Adaptation | None = None,
    ) -> None:
        super().__init__()
        if init_from is None and stylegan2 is None:
            raise InputError(
                f"{type(self).__name__} needs a network: give --model.stylegan2, or weights to start from with "
                "--model.init_from"
            )
        check_range("--model.style_mixing", style_mixing, 0, 1)
        check_range("--model.truncation", truncation)
        if micro_batch is not None:
            check_range("--model.micro_batch", micro_batch, 1)
        check_range("--model.freeze_d", freeze_d, 0)
        self.config, self.init_from, self.init_weights = stylegan2, init_from, init_weights
        self.optimizer_g, self.optimizer_d, self.regularization = optimizer_g, optimizer_d, regularization
        self.style_mixing, self.augmentation = style_mixing, augmentation or nn.Identity()
        self.micro_batch, self.truncation, self.freeze_d = micro_batch, truncation, freeze_d
        self.adapted = Adapted(generator=adapt, discriminator=adapt_d)
        self.generator: StyleGAN2Generator
        self.discriminator: StyleGAN2Discriminator
        self.path_length_mean: Tensor
        self.register_buffer("path_length_mean", torch.zeros(()))
        self.choices = step_choices(0)
        """What all ranks choose alike at this step: whether styles are mixed, and whatever a method chooses."""

    def configure_model(self) -> None:
        """Build the networks, with the weights of init_from.

        Raises:
            InputError: init_from cannot be read or does not fit.
        """
        if "generator" not in self._modules:
            self.build()

    def build(self) -> None:
        """Make the networks, once.

        Raises:
            InputError: init_from cannot be read, does not fit, or has not the layers that are to be frozen.
        """
        initial = None
        if self.init_from is not None:
            initial = read(self.init_from, STYLEGAN2, self.init_weights)
            self.config = initial.config_for(self.config)
        assert self.config is not None
        self.generator, self.discriminator = StyleGAN2Generator(self.config), StyleGAN2Discriminator(self.config)
        if initial is not None:
            self.weights_origin = start_from(initial, self)
            if "generator" not in self.adapted.adaptations:  # what is kept of it has no other average
                self.first_averages = initial.averages
            if "discriminator" not in initial.states and (self.freeze_d or "discriminator" in self.adapted.adaptations):
                option = f"freeze_d {self.freeze_d}" if self.freeze_d else "adapt_d"
                raise InputError(f"--model.{option}: {initial.path} has no discriminator to keep layers of")
        self.adapted.apply(self, initial, self.init_from, self.init_weights)
        if self.freeze_d:
            self.discriminator.freeze(self.freeze_d)

    def players(self) -> Mapping[Player, Sequence[nn.Module]]:
        """The modules that each optimiser trains."""
        return {"generator": [self.generator], "discriminator": [self.discriminator]}

    def configure_optimizers(self) -> Any:
        """The two optimisers, corrected for the regularisers' steps."""
        players, rest, adapted = self.players(), self.regularization, self.adapted.adaptations
        weights = {
            name: [p for module in modules for p in module.parameters() if p.requires_grad or name not in adapted]
            for name, modules in players.items()
        }  # an optimiser knows of what freeze_d keeps, as it did in older runs
        optimizer_g = build_optimizer("--model.optimizer_g", self.optimizer_g, weights["generator"])
        optimizer_d = build_optimizer("--model.optimizer_d", self.optimizer_d, weights["discriminator"])
        return [
            lazily(optimizer_g, rest.path_length_every if rest.path_length > 0 else None),
            lazily(optimizer_d, rest.r1_every if rest.r1 > 0 else None),
        ]

    def on_fit_start(self) -> None:
        """Check that the images suit the networks.

        Raises:
            InputError: Sizes disagree, a batch cannot be divided as the discriminator needs it, or layers are to be
                frozen that were never trained.
        """
        super().on_fit_start()
        assert self.config is not None
        if self.freeze_d and self.init_from is None and self.trainer.ckpt_path is None:
            raise InputError(f"--model.freeze_d {self.freeze_d} keeps trained layers: give them with --model.init_from")
        self.adapted.refuse_untrained(self, self.init_from)
        data = getattr(self.trainer, "datamodule", None)
        check_image_size(data, self.config.image_size, "--model.stylegan2.image_size")
        batch = getattr(data, "batch_size", None)
        if batch is not None:
            self.check_batch(batch, self.micro_batch or batch)
        shots = getattr(data, "shots", None)
        if shots == 1:
            rank_zero_warn(
                "--data.shots 1: the discriminator learns a single image by heart, so expect copies of it; give more"
            )

    def check_batch(self, batch: int, part: int) -> None:
        """Refuse a batch that the discriminator cannot compare in groups.

        Raises:
            InputError: The sizes do not divide.
        """
        if batch % part:
            raise InputError(f"--data.batch_size {batch} is no multiple of --model.micro_batch {part}: make it one")
        group = self.config.mbstd_group_size if self.config else 4
        if group and part % min(part, group):
            name = "--data.batch_size" if self.micro_batch is None else "--model.micro_batch"
            raise InputError(
                f"{name} is {part}, but the discriminator compares groups of {group} images: choose 1 to {group} "
                f"or a multiple of {group}"
            )

    # What steps are made of

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Draw the choices of this step."""
        self.choices = step_choices(self.trainer.global_step)

    def r1_terms(self, real: Tensor, discriminate: Discriminate) -> Terms:
        """The gradient penalty on real images (arXiv 1801.04406), in the weights' precision, augmented."""
        with torch.autocast(self.device.type, enabled=False):
            real = real.detach().to(self.discriminator.output.weight.dtype).requires_grad_()
            [logits] = discriminate(self.augmentation(real))
            penalty = r1_penalty(logits, real).mean()
        return {"r1": self.regularization.r1 / 2 * self.regularization.r1_every * penalty}

    def path_length_terms(self, count: int) -> Terms:
        """The path length penalty on a smaller batch, in the weights' precision."""
        rest = self.regularization
        with torch.autocast(self.device.type, enabled=False):
            styles = self.styles(max(1, count // rest.path_length_shrink))
            if not styles.requires_grad:
                styles.requires_grad_()  # of a mapping network that is frozen as a whole
            lengths = path_lengths(self.generator.synthesis(styles), styles)
            penalty, mean = path_length_penalty(
                lengths, self.path_length_mean, self.mean_over_ranks(lengths.mean()), decay=rest.path_length_decay
            )
        self.path_length_mean.copy_(mean.detach())
        return {"path_length": rest.path_length * rest.path_length_every * penalty}

    def styles(self, count: int) -> Tensor:
        """Styles of random latents, mixed or not: (count, num_styles, latent_dim)."""
        first = self.latents_of_noise(count)
        if torch.is_grad_enabled():
            average = self.generator.latent_average
            average.lerp_(self.mean_over_ranks(first.detach().to(average.dtype).mean(0)), 1 - AVERAGE_DECAY)
        if self.choices.random() >= self.style_mixing:
            return self.generator.broadcast(first)
        cut = self.choices.randint(1, self.generator.config.num_styles - 1)
        return self.generator.mix(first, self.latents_of_noise(count), cut)

    def latents_of_noise(self, count: int) -> Tensor:
        """w of random z: (count, latent_dim)."""
        w: Tensor = self.generator.mapping(torch.randn(count, self.generator.config.latent_dim, device=self.device))
        return w

    def discriminate(self, *images: Tensor) -> Sequence[Tensor]:
        """The discriminator's logits (N,) of batches of equal size, in one pass."""
        together = images[0] if len(images) == 1 else torch.cat(images)
        logits: Tensor = self.discriminator(together, batches=len(images))
        return logits.chunk(len(images))

    def observe(self, real_logits: Tensor) -> None:
        """Let the augmentation see how sure the discriminator is of real images."""
        if isinstance(self.augmentation, AdaptiveAugment):
            self.augmentation.observe(real_logits)

    def adjust_augmentation(self, step: int) -> None:
        """Move its probability when it is time; till then all ranks hold equal counts, since one of them saves."""
        if not isinstance(self.augmentation, AdaptiveAugment):
            return
        signs = self.augmentation.signs
        signs.copy_(self.mean_over_ranks(signs))
        self.log("train/augmentation", self.augmentation.probability)
        if step % ADJUST_EVERY == 0:
            self.log("train/overfitting", self.augmentation.adjust(signs * self.trainer.world_size))

    def mean_over_ranks(self, value: Tensor) -> Tensor:
        """The mean of each rank's value; gradients go back to the rank that each came from."""
        if self._trainer is None or self._trainer.world_size == 1:
            return value
        return all_reduce(value.contiguous()) / self._trainer.world_size

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the checkpoint is."""
        super().on_save_checkpoint(checkpoint)
        assert self.config is not None
        told = describe(STYLEGAN2, self.config, type(self).__name__) | self.adapted.words()
        checkpoint.setdefault("tenshot", {}).update(told)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Look whether it fits.

        Raises:
            InputError: It is a checkpoint of other networks, or training goes on with another method.
        """
        super().on_load_checkpoint(checkpoint)
        assert self.config is not None
        refuse_other(self, checkpoint, STYLEGAN2, self.config, free="augmentation", adapted=self.adapted)
        if isinstance(self.augmentation, AdaptiveAugment) and self.augmentation.fixed is not None:
            checkpoint["state_dict"]["augmentation.probability"] = self.augmentation.probability
