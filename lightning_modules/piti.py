"""PITI: a pretrained diffusion model learns to draw from masks, sketches or geometry (arXiv 2205.12952)."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor

from tenshot.checkpoints import PITI_UNET, UNET, Trained
from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.diffusion import Condition
from tenshot.errors import InputError, check_range
from tenshot.lightning_modules.condition_gap import ConditionGap, of_others
from tenshot.lightning_modules.data_checks import check_condition_images, check_images
from tenshot.lightning_modules.ddpm import DDPM
from tenshot.lightning_modules.piti_weights import as_piti, read_prior
from tenshot.models import GlideUNet, PITIConfig

__all__ = ["PITI"]

LEAST_GAP = 0.001
"""A network is warned of that loses less than this part of its loss with the condition of another image."""


class PITI(DDPM):
    """Teach a pretrained diffusion model to draw from condition images: masks, sketches, or normals and depth.

    Each stage is a run: in the first an encoder of condition images learns to speak to the frozen network, the second
    goes on from it with all weights.

    Args:
        piti: Architecture, by default that of the published models of 64 px. Not needed where init_from is a PITI, nor
            for colour maps of 256 px beside a GLIDE.
        encoder_from: A PITI, or its first stage, whose condition encoder is taken; the rest is that of init_from.
        stage: 1 trains the condition encoder alone, with what condition_input adds; 2 everything.
        condition_drop: Part of the images whose condition is hidden in training, so that classifier_free can guide. 1
            trains on images alone: a prior that knows no condition yet.
        adapt_context: In stage 1 also train the layers by which the network sees the condition: those of a diffusion
            model that never had one are fresh.
    """

    kind = PITI_UNET
    fixed = ("unet", "label_drop")
    """Options of DDPM that there are none of."""
    drop_option = "condition_drop 0.2"
    unet: GlideUNet

    def __init__(
        self,
        piti: PITIConfig | None = None,
        encoder_from: str | None = None,
        stage: Literal[1, 2] = 1,
        condition_drop: float = 0.0,
        adapt_context: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(unet=piti, label_drop=0.0, **kwargs)
        check_range("--model.condition_drop", condition_drop, 0, 1)
        if stage == 1 and self.adapted.adaptations:
            raise InputError("--model.adapt is of stage 2: in stage 1 the condition encoder alone is trained")
        if encoder_from is not None and self.init_from is None:
            raise InputError(
                "--model.encoder_from gives a condition encoder alone: give the diffusion model beside which it was "
                "trained with --model.init_from"
            )
        self.encoder_from, self.training_stage = encoder_from, stage
        self.condition_drop, self.adapt_context = condition_drop, adapt_context
        self.val_gap = ConditionGap("condition image", LEAST_GAP, "docs/piti.md")
        self._null_known = False

    # The network, and what of it is trained

    def configure_model(self) -> None:
        """Build the network; in stage 1 freeze what is pretrained, which stays in training mode.

        Raises:
            InputError: As DDPM.
        """
        if "unet" in self._modules:
            return
        super().configure_model()
        if self.training_stage == 1:
            for name, weight in self.unet.named_parameters():
                encodes = name.startswith(("context_encoder.", "condition_stem."))
                weight.requires_grad_(encodes or (self.adapt_context and self.is_new(name)))

    def is_new(self, name: str) -> bool:
        """Whether a weight is of the condition encoder, or of a layer by which the network sees the condition."""
        begins = ("context_encoder.", "context_embedding.", "condition_stem.")
        return name.startswith(begins) or ".context_kv." in name

    def initial(self, path: str) -> Trained[PITIConfig]:  # type: ignore[override]
        """The weights of init_from, with the encoder of encoder_from or, where there is none, a fresh one.

        Raises:
            InputError: They cannot be read or do not belong together, or the fresh layers would never be trained.
        """
        prior = read_prior(path, self.init_weights, self.asked)
        if prior.kind is UNET and self.training_stage == 1 and not self.adapt_context:
            raise InputError(
                f"{path}: a diffusion model without a condition, so that the layers that see one are fresh: train them "
                "in stage 1 with --model.adapt_context true, or all with --model.stage 2"
            )
        config = cast(PITIConfig | None, self.unet_config)
        trained = as_piti(prior, self.encoder_from, self.init_weights, self.asked, config, self)
        own = prior.kind is PITI_UNET and prior.config.condition_channels == trained.config.condition_channels
        self._null_known = own and prior.stage.get("condition_drop", 1) > 0
        trained.config_for(config)
        return trained

    def on_fit_start(self) -> None:
        """Check that images and conditions suit the network.

        Raises:
            InputError: Sizes or channels disagree, there are no condition images, or nothing is pretrained in stage 1.
        """
        data, config = getattr(self.trainer, "datamodule", None), cast(PITIConfig, self.unet.config)
        self.adapted.refuse_untrained(self, self.init_from)
        check_images(data, config, "--model.piti", context_channels=config.context_channels)
        if not self.unconditional:
            check_condition_images(data, config)
        if self.training_stage == 1 and self.init_from is None and self.trainer.ckpt_path is None:
            raise InputError(
                "--model.stage 1 trains the condition encoder of a pretrained network: give that with "
                "--model.init_from, or train all with --model.stage 2"
            )

    @property
    def unconditional(self) -> bool:
        """Whether it is trained on images alone."""
        return self.condition_drop == 1

    # Training

    def condition_of(self, batch: dict[str, Any]) -> Condition:
        """The condition images of a training batch, or none of them."""
        if self.unconditional:
            return self.unet.null_condition(len(batch["image"]))
        return {CONDITION_IMAGE: batch["condition"][CONDITION_IMAGE]}

    def some_hidden(self, condition: Condition) -> Condition:
        """The same, with a white image in place of a part of them."""
        if condition is None or not 0 < self.condition_drop < 1:
            return condition
        image = condition[CONDITION_IMAGE]
        hidden = torch.rand(len(image), device=image.device) < self.condition_drop
        white = self.null(condition)[CONDITION_IMAGE]
        return {CONDITION_IMAGE: torch.where(hidden.view(-1, 1, 1, 1), white, image)}

    def validation_loss(self, x: Tensor, t: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        """The loss of each image; beside it, how much larger it is with the condition of another image."""
        loss = super().validation_loss(x, t, noise, condition)
        if not self.unconditional:
            others = of_others(condition, (CONDITION_IMAGE,))
            self.val_gap.update(loss, super().validation_loss(x, t, noise, others))
            self.log("val/condition_gap", self.val_gap.mean, batch_size=len(x))
        return loss

    def on_validation_epoch_end(self) -> None:
        """Warn where the condition makes no difference."""
        if not self.unconditional:
            self.val_gap.warn(self.val_loss.compute(), self.trainer.global_step)

    # Drawing

    @property
    def condition_name(self) -> str | None:
        """Which entry of the data's conditions images are drawn from; none of a network that knows none."""
        return None if self.unconditional else CONDITION_IMAGE

    @property
    def knows_null(self) -> bool:
        """Whether conditions were hidden from it in training."""
        return self.condition_drop > 0 or self._null_known

    def null(self, told: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """White images, or what the network is told in place of prepared conditions."""
        if CONDITION_IMAGE in told:
            image = told[CONDITION_IMAGE]
            return {CONDITION_IMAGE: torch.full_like(image, 255 if image.dtype == torch.uint8 else 1)}
        white = self.unet.prepare(self.unet.null_condition(1))
        return {name: row.expand_as(told[name]) for name, row in white.items()}

    def told(self, seeds: Tensor, condition: Mapping[str, Tensor]) -> Condition:
        """The condition images, encoded once for all steps.

        Args:
            seeds: (N,).
            condition: ``condition_image`` (N, C, S, S), uint8 or in [-1, 1].

        Raises:
            InputError: There are none, or of another size.
        """
        if CONDITION_IMAGE in condition:
            return self.prepared({CONDITION_IMAGE: condition[CONDITION_IMAGE]})
        if not self.unconditional:
            raise InputError(
                "PITI draws from condition images: give data that have some, --data Paired for example, or in Python "
                "sample(seeds, {'condition_image': images})"
            )
        return self.prepared(self.unet.null_condition(len(seeds)))

    def prepared(self, condition: Condition) -> Condition:
        """Keys and values of the condition for all attention layers."""
        return self.unet.prepare(condition or {})

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also whether it was trained without conditions, and has been warned of."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["tenshot"]["stage"] = {"condition_drop": self.condition_drop}
        checkpoint["condition_warned"] = self.val_gap.warned

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also whether it has been warned of."""
        super().on_load_checkpoint(checkpoint)
        self.val_gap.step = checkpoint.get("global_step", 0)
        if self._trainer is not None and self.trainer.training:
            self.val_gap.warned = checkpoint.get("condition_warned", False)
