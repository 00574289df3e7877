"""PITI's upsampler: small images become large ones that follow the condition image too (arXiv 2205.12952)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Adam
from torchmetrics import MeanMetric

from tenshot.checkpoints import PITI_UNET, Trained
from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.datamodules.pixels import from_pixels, to_pixels
from tenshot.diffusion import Condition, Denoised, downsample, upsample
from tenshot.diffusion.degradation import Degradation
from tenshot.distributed.seeding import host_seeds
from tenshot.errors import InputError, check_range
from tenshot.lightning_modules.adversarial import AdversarialModule, Player, Terms
from tenshot.lightning_modules.condition_gap import ConditionGap, of_others
from tenshot.lightning_modules.data_checks import check_condition_images, check_images
from tenshot.lightning_modules.ddpm import DDPM
from tenshot.lightning_modules.optimization import build_optimizer
from tenshot.lightning_modules.piti_weights import as_piti, read_upsampler
from tenshot.lightning_modules.sampler import Sampler
from tenshot.lightning_modules.upsampler_losses import PatchAdversary, Perceptual
from tenshot.losses import (
    interpolated,
    perceptual_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
    wgan_gradient_penalty,
)
from tenshot.models import GlideUNet, PatchGANDiscriminator, PITIConfig
from tenshot.models.features import FeatureMaps

__all__ = ["PITIUpsampler"]

PUBLISHED = Sampler("ddpm", "fast27", temperature=0.997)
DEGRADATION, PERCEPTUAL, ADVERSARY = Degradation(), Perceptual(), PatchAdversary()
LEAST_GAP = 0.01
"""A network is warned of that loses less than this part of its loss with the low-resolution image of another."""


class PITIUpsampler(DDPM, AdversarialModule):
    """Train a diffusion model that enlarges images by a condition image, with perceptual and adversarial losses.

    Args:
        piti: Architecture, by default that of the published models of 256 px. Not needed where init_from is a PITI, nor
            for colour maps of 256 px beside a GLIDE.
        low_res_size: Side of the images that it enlarges; none: that of init_from, or a quarter of its own.
        degradation: How training images become the small ones; none: by bicubic interpolation alone.
        perceptual: The perceptual loss.
        adversary: The adversarial loss.
        losses_from: Step from which these two losses count, and the discriminator is trained.
        optimizer_d: Of the discriminator, built from its parameters.
        sampler: How images are drawn.
    """

    kind = PITI_UNET
    fixed = ("unet", "label_drop", "guidance", "classifier_free", "lr_scheduler", "sampler", "adapt")
    """Options of DDPM that there are none of, or that are described here."""
    low_res_channels = 3
    condition_name = CONDITION_IMAGE
    """Which entry of the data's conditions images are drawn from, beside small images."""
    drawing = ("sampler",)
    unet: GlideUNet

    def __init__(
        self,
        piti: PITIConfig | None = None,
        low_res_size: int | None = None,
        degradation: Degradation | None = DEGRADATION,
        perceptual: Perceptual = PERCEPTUAL,
        adversary: PatchAdversary = ADVERSARY,
        losses_from: int = 100,
        optimizer_d: OptimizerCallable = lambda params: Adam(params, lr=1e-5),
        sampler: Sampler = PUBLISHED,
        **kwargs: Any,
    ) -> None:
        piti = piti and replace(piti, low_res_channels=self.low_res_channels)
        super().__init__(
            unet=piti, sampler=sampler, label_drop=0.0, guidance=None, classifier_free=None, lr_scheduler=None,
            adapt=None, **kwargs,
        )  # fmt: skip
        check_range("--model.losses_from", losses_from, 0)
        if low_res_size is not None:
            check_range("--model.low_res_size", low_res_size, 1)
        self.low_res_size = cast(int, low_res_size)  # none until it is built, where it is not given
        self.degradation, self.perceptual, self.adversary = degradation, perceptual, adversary
        self.losses_from, self.optimizer_d = losses_from, optimizer_d
        self.discriminator: PatchGANDiscriminator
        self.features: Sequence[FeatureMaps] = ()
        """The perceptual network in training: no submodule, so that it is in neither checkpoints nor DDP's buckets."""
        self.features_before: str | None = None
        """SHA-256 of its weights in the run that goes on."""
        self.low_res_gap = ConditionGap("low-resolution image", LEAST_GAP, "docs/piti.md")
        self.image_gap = MeanMetric(nan_strategy="disable")

    # The networks

    def configure_model(self) -> None:
        """Build the network and the discriminator.

        Raises:
            InputError: As DDPM; or the images are no multiple of those that are enlarged.
        """
        if "unet" in self._modules:
            return
        super().configure_model()
        side = self.unet.config.image_size
        self.low_res_size = self.low_res_size or side // 4
        if self.low_res_size >= side or side % self.low_res_size:
            raise InputError(
                f"--model.low_res_size is {self.low_res_size}: choose a half or a quarter of the image_size, {side}"
            )
        self.discriminator = PatchGANDiscriminator(3, self.adversary.channels, self.adversary.layers)

    def initial(self, path: str) -> Trained[PITIConfig]:  # type: ignore[override]
        """The weights of init_from, with a fresh condition encoder where it has none.

        Raises:
            InputError: They cannot be read, or are of no such upsampler.
        """
        upsampler = read_upsampler(path, self.init_weights, self.asked)
        theirs = upsampler.stage.get("low_res_size")
        if theirs is not None and self.low_res_size not in (None, theirs):
            rank_zero_warn(f"{path} was trained to enlarge {theirs} px (here --model.low_res_size {self.low_res_size})")
        self.low_res_size = cast(int, self.low_res_size or theirs)
        config = cast(PITIConfig | None, self.unet_config)
        trained = as_piti(upsampler, None, self.init_weights, self.asked, config, self)
        trained.config_for(config)
        return trained

    def players(self) -> Mapping[Player, Sequence[nn.Module]]:
        """The modules that each optimiser trains."""
        return {"generator": [self.unet], "discriminator": [self.discriminator]}

    def configure_optimizers(self) -> Any:
        """The two optimisers."""
        return [
            build_optimizer("--model.optimizer", self.optimizer, self.unet.parameters()),
            build_optimizer("--model.optimizer_d", self.optimizer_d, self.discriminator.parameters()),
        ]

    def on_fit_start(self) -> None:
        """Check that the data suit the networks, and read the perceptual network.

        Raises:
            InputError: Sizes or channels disagree, there are no condition images, or a file is missing.
        """
        AdversarialModule.on_fit_start(self)
        data, config = getattr(self.trainer, "datamodule", None), cast(PITIConfig, self.unet.config)
        check_images(data, config, "--model.piti", self.low_res_channels, config.context_channels)
        check_condition_images(data, config)
        if self.adversary.weight:
            self.adversary.refuse_small(config.image_size, self.discriminator.least)
        if self.perceptual.weight:
            network = self.perceptual.read(config.image_size)
            if self.features_before not in (None, network.weights_sha256):
                rank_zero_warn("the perceptual network has other weights than the run had before")
            self.features = (network.to(self.device),)

    # Training

    def condition_of(self, batch: dict[str, Any]) -> Condition:
        """Small images, degraded each by its own seed, and the condition images."""
        images = batch["image"]
        if self.degradation is None:
            low_res = self.condition_from(images)["low_res"]
        else:
            low_res = self.degradation(images, self.low_res_size, host_seeds(len(images)))
        return {"low_res": low_res, CONDITION_IMAGE: batch["condition"][CONDITION_IMAGE]}

    def phases(self, step: int) -> tuple[bool]:
        """Whether the perceptual and the adversarial loss count at a step."""
        return (step >= self.losses_from,)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Terms:  # type: ignore[override]
        """A step of the discriminator on what the network sees in noisy images, then one of the network."""
        x = batch["image"]
        t, weights = self.denoiser.timesteps.sample(len(x), x.device)
        step, judged = self.denoiser.predict(x, t, torch.randn_like(x), self.condition_of(batch)), {}
        if self.adversary.weight and self.phases(self.trainer.global_step)[0]:
            judge = partial(self.discriminator_terms, x, self.estimate(step).detach())
            judged = self.optimise("discriminator", [judge])
        learn = partial(self.generator_terms, step, t, weights, batch_idx)
        terms = self.optimise("generator", [learn], counted=True)
        loss = torch.stack(list(terms.values())).sum()
        self.log_dict({"train/loss": loss} | {f"train/{name}": value for name, value in judged.items()})
        return {"loss": loss} | terms | judged

    def estimate(self, step: Denoised) -> Tensor:
        """The clean images (N, 3, H, W) that the network sees, clamped to [-1, 1], where gradients end."""
        return self.diffusion.x0(step.output, step.x_t, step.t).clamp(-1, 1)

    def discriminator_terms(self, real: Tensor, fake: Tensor) -> Terms:
        """Tell true images (N, 3, H, W) from estimated ones: WGAN-GP."""
        between = interpolated(real, fake)
        penalty = wgan_gradient_penalty(self.discriminator(between), between).mean()
        return {
            "discriminator": wasserstein_critic_loss(self.discriminator(real), self.discriminator(fake)),
            "gradient_penalty": self.adversary.gradient_penalty * penalty,
        }

    def generator_terms(self, step: Denoised, t: Tensor, weights: Tensor, batch_idx: int) -> Terms:
        """All terms of the network's loss, averaged over the batch."""
        terms = self.loss_terms(step)
        self.denoiser.timesteps.update(t, torch.stack(list(terms.values())).sum(0).detach())
        self.log_terms(terms, t, batch_idx)
        return {name: (weights * value).mean() for name, value in terms.items()}

    def loss_terms(self, step: Denoised) -> dict[str, Tensor]:
        """The diffusion loss, and how far the estimate is from the true image and from looking true, each (N,)."""
        terms = super().loss_terms(step)
        if not self.phases(self.trainer.global_step)[0]:
            return terms
        estimate = self.estimate(step)
        for features in self.features:
            terms["perceptual"] = self.perceptual.weight * perceptual_loss(features(estimate), features(step.x0))
        if self.adversary.weight:
            logits = self.discriminator(estimate)
            terms["adversarial"] = self.adversary.weight * wasserstein_generator_loss(logits)
        return terms

    def validation_loss(self, x: Tensor, t: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        """The diffusion loss of each image; beside it, how much larger it is with either condition of another image."""
        loss = super().validation_loss(x, t, noise, condition)
        for name, gap in (("low_res", self.low_res_gap.mean), (CONDITION_IMAGE, self.image_gap)):
            gap.update(super().validation_loss(x, t, noise, of_others(condition, (name,))) - loss)
        self.log("val/low_res_gap", self.low_res_gap.mean, batch_size=len(x))
        self.log("val/condition_gap", self.image_gap, batch_size=len(x))
        return loss

    def on_validation_epoch_end(self) -> None:
        """Warn where the small image makes no difference."""
        self.low_res_gap.warn(self.val_loss.compute(), self.trainer.global_step)

    # Drawing

    def condition_from(self, images: Tensor) -> dict[str, Tensor]:
        """What true images (N, 3, H, W) in [-1, 1] are drawn from beside their condition image: ``low_res``."""
        return {"low_res": downsample(images, self.low_res_size, "bicubic")}

    def told(self, seeds: Tensor, condition: Mapping[str, Tensor]) -> Condition:
        """The small images, enlarged, and the condition images, encoded once for all steps.

        Args:
            seeds: (N,).
            condition: ``low_res`` (N, 3, s, s) in [-1, 1], which is rounded to 256 levels, as in training; and
                ``condition_image`` (N, C, S, S), uint8 or in [-1, 1].

        Raises:
            InputError: Either is not there, or of another size.
        """
        if not condition.keys() >= {"low_res", CONDITION_IMAGE}:
            raise InputError(
                "PITIUpsampler draws from small images and condition images: give --images.low_res FOLDER, and data "
                "that have the others, or in Python sample(seeds, {'low_res': small, 'condition_image': images})"
            )
        small, wanted = condition["low_res"], (3, self.low_res_size, self.low_res_size)
        if tuple(small.shape[1:]) != wanted:
            raise InputError(f"small images of shape {tuple(small.shape[1:])}, this upsampler takes {wanted}")
        low_res = upsample(from_pixels(to_pixels(small)), self.unet.config.image_size)
        return self.prepared({"low_res": low_res, CONDITION_IMAGE: condition[CONDITION_IMAGE]})

    def prepared(self, condition: Condition) -> Condition:
        """Keys and values of the condition image for all attention layers, beside the small image."""
        return self.unet.prepare(condition or {})

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also what it enlarges, the hash of the perceptual network, and whether it has been warned of."""
        super().on_save_checkpoint(checkpoint)
        AdversarialModule.on_save_checkpoint(self, checkpoint)
        checkpoint["tenshot"]["stage"] = {"low_res_size": self.low_res_size}
        checkpoint["condition_warned"] = self.low_res_gap.warned
        checkpoint["perceptual_sha256"] = next((each.weights_sha256 for each in self.features), None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also whether it has been warned of.

        Raises:
            InputError: As DDPM; or it enlarges images of another size.
        """
        super().on_load_checkpoint(checkpoint)
        AdversarialModule.on_load_checkpoint(self, checkpoint)
        size = checkpoint["tenshot"]["stage"]["low_res_size"]
        if size != self.low_res_size:
            raise InputError(
                f"the checkpoint enlarges {size} px, here --model.low_res_size is {self.low_res_size}: set it as it was"
            )
        self.low_res_gap.step = checkpoint.get("global_step", 0)
        if self._trainer is not None and self.trainer.training:
            self.low_res_gap.warned = checkpoint.get("condition_warned", False)
            self.features_before = checkpoint.get("perceptual_sha256")
