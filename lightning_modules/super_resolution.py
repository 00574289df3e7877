"""A super-resolution stage of a cascade of diffusion models (CDM, arXiv 2106.15282)."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any, Self

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from tenshot.checkpoints import Trained
from tenshot.diffusion import Augmentation, Condition, Corruption, Denoised, GaussianDiffusion, downsample, upsample
from tenshot.diffusion.corruption import Downsampling
from tenshot.diffusion.timesteps import TimestepBinMeans
from tenshot.distributed.seeding import SeededNoise
from tenshot.errors import InputError, check_range
from tenshot.lightning_modules.condition_gap import ConditionGap, of_others
from tenshot.lightning_modules.ddpm import DDPM
from tenshot.losses.arithmetic import full_precision
from tenshot.models import UNetConfig
from tenshot.models.blocks import TimeEmbedding, zeroed

__all__ = ["SuperResolution"]

Z_STREAM = 1
"""Of the noise in z: x_T of a seed is then the same whatever s is, so that values of s can be compared."""
LEAST_GAP = 0.01
"""A stage is warned of that loses less than this part of its loss with a wrong z."""


class SuperResolution(DDPM):
    """Train a stage that enlarges images: a diffusion model that is given a low-resolution image z.

    z is made from the training image, corrupted at its own resolution, and enlarged.

    Args:
        low_res_size: Side of z in pixels. Not needed where init_from tells it.
        downsample: How z is made from a training image: area, or bicubic (antialiased), whichever made the training
            set of the base; none: that of init_from, or area.
        augmentation: How z is corrupted in training; none: as for init_from, or not at all.
        augmentation_s: Step s of noise in z when images are drawn; none: the least of training.
        start_step: Begin to draw from the enlarged z with the noise of this step of the stage's own process, not from
            noise alone (RelayDiffusion, arXiv 2309.03350); the sampler's steps are then of those up to it.
    """

    low_res_channels = 3
    drawing = (*DDPM.drawing, "augmentation_s", "start_step")

    def __init__(
        self,
        low_res_size: int | None = None,
        downsample: Downsampling | None = None,
        augmentation: Augmentation | None = None,
        augmentation_s: int | None = None,
        start_step: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if low_res_size is None and self.init_from is None:
            raise InputError("SuperResolution needs the side of the images that it enlarges: give --model.low_res_size")
        if self.unet_config is not None:
            self.unet_config = replace(self.unet_config, low_res_channels=self.low_res_channels)
            self.asked["low_res_channels"] = self.low_res_channels
        self.asked["low_res_timestep"] = False  # of public files, which know of no s
        self.given = {"low_res_size": low_res_size, "downsample": downsample, "augmentation": augmentation}
        self.augmentation_s, self.start_step = augmentation_s, start_step
        self.val_gap = ConditionGap("low-resolution image", LEAST_GAP, "docs/cascades.md")

    # The network and what it is given

    def configure_model(self) -> None:
        """Build the network; where there is noise in z it is told s.

        Raises:
            InputError: As DDPM; or sizes, s or start_step do not fit.
        """
        if "unet" in self._modules:
            return
        if self.init_from is None:
            self._take({})
            assert self.unet_config is not None
            self.unet_config = self._knowing_s(self.unet_config)
        if self.start_step is not None:
            check_range("--model.start_step", self.start_step, 2)
        super().configure_model()
        check_range("--model.low_res_size", self.low_res_size, 2, self.unet.config.image_size - 1)
        steps, told, drawn = self.corruption.steps, self.corruption.told, self.drawn_s
        self.s_bins = TimestepBinMeans(len(steps))
        if self.augmentation.noise is not None:
            rank_zero_info(f"low-resolution images: trained with {told(steps[0])} to {told(steps[-1])}, {told(drawn)}")

    def initial(self, path: str) -> Trained[UNetConfig]:
        """The weights of init_from; a network that is not told s gets an embedding of it that changes nothing yet.

        Raises:
            InputError: They cannot be read, or are of no super-resolution stage.
        """
        trained = super().initial(path)
        self._take(trained.stage, path)
        if self.unet_config is not None:
            told = trained.config.low_res_timestep
            self.unet_config = self._knowing_s(replace(self.unet_config, low_res_timestep=told))
        config = self._knowing_s(trained.config)
        if config == trained.config:
            return trained
        with torch.device("cpu"):
            embedding = TimeEmbedding(config.channels)
            zeroed(embedding.fc2)
        fresh = {f"s_embedding.{name}": value for name, value in embedding.state_dict().items()}
        return replace(trained, config=config, states={"unet": {**trained.states["unet"], **fresh}})

    def is_new(self, name: str) -> bool:
        """Whether a weight is of the embedding of s."""
        return name.startswith("s_embedding.")

    def _knowing_s(self, config: UNetConfig) -> UNetConfig:
        return config if self.augmentation.noise is None else replace(config, low_res_timestep=True)

    def _take(self, stage: Mapping[str, Any], path: str = "") -> None:
        """The options that say what is enlarged, or what the weights were trained for where they are not given.

        Raises:
            InputError: Neither tells the size.
        """
        found = {"downsample": "area", **stage, "augmentation": Augmentation.of(stage.get("augmentation"))}
        found |= {name: value for name, value in self.given.items() if value is not None}
        if "low_res_size" not in found:
            raise InputError(f"{path}: does not tell which images it enlarges: give their side, --model.low_res_size")
        self.low_res_size: int = found["low_res_size"]
        self.downsample: Downsampling = found["downsample"]
        self._corrupt(found["augmentation"])
        if differ := self._differences(stage):
            rank_zero_warn(f"{path} was trained with {', '.join(differ)}")

    def _corrupt(self, augmentation: Augmentation) -> None:
        self.augmentation, self.corruption = augmentation, Corruption(augmentation)

    def condition_from(self, images: Tensor) -> dict[str, Tensor]:
        """What true images (N, C, H, W) in [-1, 1] are drawn from: ``low_res``, not corrupted."""
        return {"low_res": downsample(images, self.low_res_size, self.downsample)}

    # Training

    def condition_of(self, batch: dict[str, Any]) -> Condition:
        """Make z from each image, corrupt it, enlarge it."""
        z, s = self.corruption(self.condition_from(batch["image"])["low_res"])
        return {**(super().condition_of(batch) or {}), **self._enlarged(z, s)}

    def _enlarged(self, z: Tensor, s: Tensor) -> dict[str, Tensor]:
        """z (N, C, h, w) and s (N,) as the network is given them."""
        low_res = upsample(z, self.unet.config.image_size)
        return {"low_res": low_res, "s": s} if self.unet.config.low_res_timestep else {"low_res": low_res}

    def loss_terms(self, step: Denoised) -> dict[str, Tensor]:
        """The diffusion loss, of which the means by s are kept beside those by t."""
        terms, steps = super().loss_terms(step), self.corruption.steps
        if len(steps) > 1:
            assert step.condition is not None
            self.s_bins.update({f"{name}_s": value for name, value in terms.items()}, step.condition["s"] - steps[0])
        return terms

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the losses by quarter of the range of s: ``train/mse_s_q0`` is of the least noise in z."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        every = self.trainer.log_every_n_steps * self.trainer.accumulate_grad_batches  # type: ignore[attr-defined]
        if len(self.corruption.steps) > 1 and (batch_idx + 1) % every == 0:
            self.log_dict({f"train/{name}": value for name, value in self.s_bins.pop().items()})

    def validation_loss(self, x: Tensor, t: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        """The loss of each image; beside it, how much larger it is with the z of another image."""
        loss = super().validation_loss(x, t, noise, condition)
        others = of_others(condition, ("low_res", "s"))
        self.val_gap.update(loss, super().validation_loss(x, t, noise, others))
        self.log("val/condition_gap", self.val_gap.mean, batch_size=len(x))
        return loss

    def on_validation_epoch_end(self) -> None:
        """Warn where z makes no difference."""
        self.val_gap.warn(self.val_loss.compute(), self.trainer.global_step)

    # Drawing

    @property
    def drawn_s(self) -> int:
        """The step of noise in z when images are drawn, where their condition tells none.

        Raises:
            InputError: The network does not know it.
        """
        s = self.corruption.steps[0] if self.augmentation_s is None else self.augmentation_s
        self.corruption.refuse_unknown(s, "--model.augmentation_s")
        return s

    @cached_property
    def drawn_process(self) -> GaussianDiffusion:
        """The process that is undone to draw an image: the stage's, or its first start_step steps."""
        if self.start_step is None:
            return self.diffusion
        check_range("--model.start_step", self.start_step, 2, self.diffusion.num_steps)
        return GaussianDiffusion(self.diffusion.config, range(self.start_step))

    def draw_as(self, other: Self) -> None:
        """Also take over s and start_step; InputError also where the network or the process does not have them."""
        self.augmentation_s, self.start_step = other.augmentation_s, other.start_step
        self.__dict__.pop("drawn_process", None)  # which was of another step to begin from
        _ = self.drawn_s
        super().draw_as(other)

    def told(self, seeds: Tensor, condition: Mapping[str, Tensor]) -> Condition:
        """What the network is told at every step: z_s ~ q(z_s | z_0), enlarged, s and the class.

        Args:
            seeds: (N,), of the noise in z.
            condition: ``low_res`` (N, C, h, w) in [-1, 1], z_0 (non-truncated); or ``noisy_low_res``, z_s as it is
                (truncated); ``s`` (N,) int64, by default drawn_s; ``label``.

        Raises:
            InputError: z is not there or of another size, or s was not trained with.
        """
        z, name = self._z_of(condition)
        given = condition.get("s")
        s = torch.full((len(z),), self.drawn_s, device=z.device) if given is None else given
        for value in set([] if given is None else given.tolist()):
            self.corruption.refuse_unknown(value, "s")
        if name == "low_res":
            noise = SeededNoise(seeds, self.device, Z_STREAM).normal_like(z)
            z = self.corruption.noised(z.clamp(-1, 1), s, noise)
        label = {"label": condition["label"]} if self.unet.config.num_classes is not None else {}
        return label | self._enlarged(z, s)

    def start(self, condition: Mapping[str, Tensor]) -> Tensor | None:
        """The enlarged z, where it is begun from."""
        if self.start_step is None:
            return None
        z, name = self._z_of(condition)
        if name != "low_res":
            raise InputError("--model.start_step begins from clean images, which truncated sampling has not: drop one")
        return upsample(z.clamp(-1, 1), self.unet.config.image_size)

    def _z_of(self, condition: Mapping[str, Tensor]) -> tuple[Tensor, str]:
        name = next((name for name in ("low_res", "noisy_low_res") if name in condition), None)
        if name is None:
            raise InputError("SuperResolution enlarges images: give it some, tenshot predict with --images.low_res")
        z, side = condition[name], self.low_res_size
        if tuple(z.shape[1:]) != (self.unet.config.in_channels, side, side):
            channels, height, width = z.shape[1:]
            raise InputError(
                f"low-resolution images of {width} x {height} with {channels} channels for a stage that enlarges "
                f"{side} x {side} RGB: give images of that size"
            )
        return full_precision(z), name

    # Checkpoints

    @property
    def stage(self) -> dict[str, Any]:
        """What it enlarges, as checkpoints record it."""
        size = {"low_res_size": self.low_res_size, "downsample": self.downsample}
        return size | {"augmentation": asdict(self.augmentation)}

    def _differences(self, stage: Mapping[str, Any]) -> list[str]:
        """In what trained weights enlarge other images, or count s in another process."""
        pairs = [(name, stage.get(name), getattr(self, name)) for name in ("low_res_size", "downsample")]
        theirs, ours = Augmentation.of(stage.get("augmentation")).noise, self.augmentation.noise
        if theirs is not None and ours is not None:
            process = ("num_steps", "schedule")
            pairs += [(f"augmentation.noise.{name}", getattr(theirs, name), getattr(ours, name)) for name in process]
        return [f"--model.{name} {its} (here {here})" for name, its, here in pairs if its not in (None, here)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also what it enlarges, the losses by s that are not logged yet, and whether it has been warned of."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["tenshot"]["stage"] = self.stage
        checkpoint |= {"s_bins": self.s_bins.state_dict(), "condition_warned": self.val_gap.warned}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also the losses by s. What is drawn from a checkpoint is drawn by what it was trained with.

        Raises:
            InputError: Also where it enlarges other images, or its s is of another process.
        """
        super().on_load_checkpoint(checkpoint)
        stage, self.val_gap.step = checkpoint["tenshot"]["stage"], checkpoint.get("global_step", 0)
        if differ := self._differences(stage):
            raise InputError(f"the checkpoint is of another stage, with {', '.join(differ)}: set them as they were")
        if self._trainer is None or not self.trainer.training:
            self._corrupt(Augmentation.of(stage["augmentation"]))
            _ = self.drawn_s
        else:
            self.val_gap.warned = checkpoint.get("condition_warned", False)
        self.s_bins.load_from({"timestep_bins": checkpoint.get("s_bins", {})}, self.device)
