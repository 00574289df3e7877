"""The diffusion baseline: DDPM (arXiv 2006.11239), Improved DDPM (2102.09672) and ADM (2105.05233), one module."""

from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.optim import AdamW
from torchmetrics import MeanMetric

from tenshot.checkpoints import UNET, Adapted, Kind, Trained, Weights, describe, read, refuse_other, start_from
from tenshot.checkpoints.diffusion_networks import process_for, refuse_other_channels, with_null_class
from tenshot.checkpoints.uses import used_in_training
from tenshot.diffusion import Condition, Denoised, Denoiser, DiffusionConfig, GaussianDiffusion, bits_per_dim
from tenshot.diffusion.timesteps import TimestepBinMeans
from tenshot.diffusion.weighting import LogNormalNoise, LossWeighting, Timesteps, timestep_sampler
from tenshot.distributed.sharding import shard
from tenshot.errors import InputError, check_range
from tenshot.lightning_modules.data_checks import check_images
from tenshot.lightning_modules.guidance import ClassifierFreeGuidance, ClassifierGuidance, FrozenClassifier
from tenshot.lightning_modules.noise_drawing import DrawsFromNoise
from tenshot.lightning_modules.optimization import build_optimizer, with_schedule
from tenshot.lightning_modules.sampler import Sampler
from tenshot.losses import hybrid_loss, vlb_loss
from tenshot.models import Adaptation, UNet, UNetConfig

__all__ = ["DDPM"]

ANCESTRAL_250, PREVIEW = Sampler(), Sampler("dpm_solver", 20)
PLAIN, EDM_NOISE = LossWeighting(), LogNormalNoise()


class DDPM(DrawsFromNoise):
    """Train a diffusion model from scratch, or fine-tune one (init_from) on as few as ten images.

    Args:
        unet: Architecture. Not needed where init_from tells it.
        diffusion: The noise process. Not needed where init_from tells it.
        init_from: Weights to start from, of tenshot fit or convert, or public ones of guided- or improved-diffusion.
        init_weights: Which weights of a tenshot checkpoint to start from, the averaged or the raw ones.
        dropout: Of the network in training, in place of that of unet or of the file, which may not tell its own.
        optimizer: Built from the parameters.
        lr_scheduler: Built from the optimiser, stepped every optimiser step.
        objective: ``hybrid``: noise prediction, plus the variational term where the variance is learned;
            ``vlb``: the variational bound alone (Improved DDPM, section 3.3).
        vlb_weight: Weight of the whole variational bound in the hybrid loss (lambda; 0.001 in the papers).
        timesteps: How training timesteps are drawn: ``uniform``; ``loss_aware`` as Improved DDPM does for ``vlb``;
            ``log_normal``, by the noise in them, as EDM does.
        sampler: How images are drawn.
        preview_sampler: How the grids during training are drawn.
        guidance: Draw towards classes by a classifier of noisy images.
        bits_per_dim: Respacing for the variational bound in validation ("250"; "" for all steps); none to skip it.
        compile: Compile the network with torch.compile: minutes before the first step, and not seen to be faster yet.
        label_drop: Part of the images whose label is hidden in training, so that classifier_free can guide.
        classifier_free: Draw towards classes, and away from what the network draws without a label.
        adapt: Which weights of init_from are trained; none: all.
        weighting: How much each timestep counts in the hybrid objective's regression.
        log_normal: How much noise the timesteps ``log_normal`` have.
    """

    averaged = ("unet",)
    """Submodules that an EMA follows."""
    weights_origin: str | None = None
    """What init_from was, in words."""
    low_res_channels = 0
    """Channels of low-resolution images that the network is given."""
    kind: Kind[Any] = UNET
    """Of the network; its name is that of the option that describes it."""

    def __init__(
        self,
        unet: UNetConfig | None = None,
        diffusion: DiffusionConfig | None = None,
        init_from: str | None = None,
        init_weights: Weights = "ema",
        optimizer: OptimizerCallable = lambda params: AdamW(params, lr=1e-4, weight_decay=0.0),
        lr_scheduler: LRSchedulerCallable | None = None,
        objective: Literal["hybrid", "vlb"] = "hybrid",
        vlb_weight: float = 0.001,
        timesteps: Timesteps = "uniform",
        sampler: Sampler = ANCESTRAL_250,
        preview_sampler: Sampler = PREVIEW,
        guidance: ClassifierGuidance | None = None,
        bits_per_dim: str | None = None,
        compile: bool = False,
        dropout: float | None = None,
        label_drop: float = 0.0,
        classifier_free: ClassifierFreeGuidance | None = None,
        adapt: Adaptation | None = None,
        weighting: LossWeighting = PLAIN,
        log_normal: LogNormalNoise = EDM_NOISE,
    ) -> None:
        super().__init__()
        if init_from is None and unet is None:
            raise InputError(
                f"{type(self).__name__} needs a network: give --model.{self.kind.name}, or weights to start from with "
                "--model.init_from"
            )
        check_range("--model.vlb_weight", vlb_weight, 0)
        check_range("--model.label_drop", label_drop, 0, 1, below=True)
        if objective == "vlb" and (weighting.scheme != "none" or timesteps == "log_normal"):
            raise InputError(
                "--model.objective vlb is the bound alone, which has weights and timesteps of its own: leave out "
                "--model.weighting and --model.timesteps log_normal, or take hybrid"
            )
        self.asked: dict[str, Any] = {} if dropout is None else {"dropout": dropout}
        if unet is not None:
            if label_drop and unet.num_classes is None:
                raise InputError(
                    f"--model.label_drop is {label_drop}, but the network knows no labels: set --model.unet.num_classes"
                )
            unet = replace(unet, **self.asked, null_class=unet.null_class or label_drop > 0)
            self.asked = asdict(unet) | {"null_class": False}  # of public files, which know of none
        self.unet_config, self.diffusion_config = unet, diffusion
        self.init_from, self.init_weights = init_from, init_weights
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.objective, self.vlb_weight, self.timestep_choice = objective, vlb_weight, timesteps
        self.weighting, self.log_normal = weighting, log_normal
        self.sampler, self.preview_sampler, self.guidance = sampler, preview_sampler, guidance
        self.label_drop, self.classifier_free = label_drop, classifier_free
        self.bits_per_dim_steps, self.compile_network = bits_per_dim, compile
        self.adapted = Adapted(unet=adapt)
        self.val_loss, self.val_bits = (MeanMetric(nan_strategy="disable") for _ in range(2))  # waits for no device

    def configure_model(self) -> None:
        """Build the network, with the weights of init_from, and the classifier that guides it.

        Raises:
            InputError: init_from or the classifier cannot be read or does not fit, or network, process and samplers.
        """
        if "unet" in self._modules:
            return
        process, initial = self.diffusion_config or DiffusionConfig(), None
        config = self.unet_config
        if self.init_from is not None:
            initial = self.initial(self.init_from)
            config, process = self.unet_config or initial.config, process_for(initial, self.diffusion_config)
        assert config is not None
        self.diffusion = GaussianDiffusion(process)
        refuse_other_channels(config, process, self.diffusion.learns_variance)
        if self.objective == "vlb" and process.time == "noise_level":
            raise InputError("--model.objective vlb is of timesteps, but diffusion time is noise_level: take hybrid")
        if self.objective == "vlb" and not self.diffusion.learns_variance:
            rank_zero_warn("objective vlb with a fixed variance: the bound trains the mean only")
        self.sampler = self.sampler.for_process(self.drawn_process)
        self.preview_sampler = self.preview_sampler.for_process(self.drawn_process)
        self.unet_config, self.diffusion_config = config, process
        self.unet = cast(UNet, self.kind.networks["unet"](config))
        weight = self.weighting.for_process(self.diffusion)
        hybrid = partial(hybrid_loss, vlb_weight=self.vlb_weight, mse_weight=weight)
        objective = vlb_loss if self.objective == "vlb" else hybrid
        timesteps = timestep_sampler(self.timestep_choice, self.diffusion, self.log_normal)
        self.denoiser = Denoiser(self.diffusion, self.unet, objective, timesteps)
        self.bound = None if self.bits_per_dim_steps is None else self.denoiser.respace(self.bits_per_dim_steps)
        self.bins = TimestepBinMeans(process.num_steps)
        if initial is not None:
            self.weights_origin = start_from(initial, self)
        self.adapted.apply(self, initial, self.init_from, self.init_weights, self.is_new)
        self.refuse_unguidable()
        if self.classifier_free is not None:
            rank_zero_info(f"classifier-free guidance: {self.classifier_free}")
        if self.guidance is not None:
            self.guide = FrozenClassifier(self.guidance, config, process)
            used_in_training(self.guide.path, self)
        shard(self.unet, self)
        if self.compile_network:
            self.unet.compile()

    def initial(self, path: str) -> Trained[UNetConfig]:
        """The weights of init_from, with a null class where labels are to be hidden.

        Raises:
            InputError: They cannot be read, or are of a network that is given other images or has no classes to hide.
        """
        trained = read(path, UNET, self.init_weights, self.asked)
        if trained.config.low_res_channels != self.low_res_channels:
            raise InputError(
                f"{path}: a network for {trained.method}, not for {type(self).__name__}: take --model {trained.method} "
                "or other weights"
            )
        needs_null = self.label_drop > 0 or (self.unet_config is not None and self.unet_config.null_class)
        return with_null_class(trained) if needs_null else trained

    def is_new(self, name: str) -> bool:
        """Whether a weight is of a layer that init_from may lack, and is trained however the others are adapted."""
        return False

    def on_fit_start(self) -> None:
        """Check that the images suit the network.

        Raises:
            InputError: Sizes, channels or class labels disagree, or fresh weights are to be adapted.
        """
        self.adapted.refuse_untrained(self, self.init_from)
        data = getattr(self.trainer, "datamodule", None)
        check_images(data, self.unet.config, f"--model.{self.kind.name}", self.low_res_channels)
        if self.unet.config.null_class and not self.label_drop:
            rank_zero_warn(
                "no label is hidden in training: the network unlearns to draw without one, which classifier-free "
                "guidance needs: set --model.label_drop 0.1"
            )

    def loss_terms(self, step: Denoised) -> dict[str, Tensor]:
        """What training minimises, weighted: terms of each sample (N,), and of the whole batch ()."""
        return self.denoiser.terms(step)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One micro-batch: draw t and noise, hide some labels, and regress."""
        x = batch["image"]
        t, weights = self.denoiser.timesteps.sample(len(x), x.device)
        step = self.denoiser.predict(x, t, torch.randn_like(x), self.some_hidden(self.condition_of(batch)))
        terms = self.loss_terms(step)
        per_sample = torch.stack([value.expand(len(x)) for value in terms.values()]).sum(0)
        self.denoiser.timesteps.update(t, per_sample.detach())
        loss = (weights * per_sample).mean()
        self.log("train/loss", loss)
        self.log_terms(terms, t, batch_idx)
        return loss

    def log_terms(self, terms: dict[str, Tensor], t: Tensor, batch_idx: int) -> None:
        """Log the terms of the loss, and now and then the means by quarter of the timesteps of those of samples."""
        self.log_dict({f"train/{name}": value.detach().mean() for name, value in terms.items()})
        self.bins.update({name: value for name, value in terms.items() if value.dim()}, t)
        trainer = cast(Any, self._trainer)  # none where a step is taken alone
        if trainer and (batch_idx + 1) % (trainer.log_every_n_steps * trainer.accumulate_grad_batches) == 0:
            self.log_dict({f"train/{name}": value for name, value in self.bins.pop().items()})

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The diffusion loss at fixed timesteps and noise and, if asked for, the bound: means over all ranks."""
        x, condition = batch["image"], self.condition_of(batch)
        t = torch.randint(self.diffusion.num_steps, (len(x),), device=x.device)
        self.val_loss.update(self.validation_loss(x, t, torch.randn_like(x), condition))
        self.log("val/loss", self.val_loss, batch_size=len(x))
        if self.bound is not None:
            self.val_bits.update(bits_per_dim(self.bound, x, self.prepared(condition)).total)
            self.log("val/bits_per_dim", self.val_bits, batch_size=len(x))

    def validation_loss(self, x: Tensor, t: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        """The loss of each image: (N,)."""
        return torch.stack(list(self.denoiser.loss(x, t, noise, condition).values())).sum(0)

    def condition_of(self, batch: dict[str, Any]) -> Condition:
        """What the network is told of a training batch."""
        return {"label": batch["condition"]["label"]} if self.unet.config.num_classes is not None else None

    def some_hidden(self, condition: Condition) -> Condition:
        """The same without the labels of a part of the images (classifier-free guidance, arXiv 2207.12598, alg. 1)."""
        if condition is None or not self.label_drop:
            return condition
        label = condition["label"]
        hidden = torch.rand(len(label), device=label.device) < self.label_drop
        return {**condition, "label": torch.where(hidden, self.null(condition)["label"], label)}

    def configure_optimizers(self) -> Any:
        """The optimiser of the network's weights, with its schedule in optimiser steps."""
        weights = [weight for weight in self.unet.parameters() if weight.requires_grad]
        optimizer = build_optimizer("--model.optimizer", self.optimizer, weights)
        return with_schedule(optimizer, self.lr_scheduler)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the checkpoint is, the history of the timestep sampler, and the losses that are not logged yet."""
        told = describe(self.kind, self.unet.config, type(self).__name__, self.diffusion.config)
        checkpoint["tenshot"] = checkpoint.get("tenshot", {}) | told | self.adapted.words()
        checkpoint["timesteps"] = self.denoiser.timesteps.state_dict()
        checkpoint["timestep_bins"] = self.bins.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the history of the timestep sampler, and the losses that were not logged yet.

        Raises:
            InputError: It is a checkpoint of another network, or training goes on with another method or process.
        """
        refuse_other(self, checkpoint, self.kind, self.unet.config, self.diffusion.config, adapted=self.adapted)
        self.denoiser.timesteps.load_state_dict(checkpoint["timesteps"])
        self.bins.load_from(checkpoint, self.device)
