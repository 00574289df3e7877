"""The classifier that guides a diffusion model, trained on noised images (ADM, arXiv 2105.05233, section 4)."""

from dataclasses import asdict, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW
from torchmetrics import MeanMetric

from tenshot.checkpoints import CLASSIFIER, Trained, Weights, describe, read, refuse_other, start_from
from tenshot.checkpoints.diffusion_networks import process_for
from tenshot.diffusion import DiffusionConfig, GaussianDiffusion
from tenshot.diffusion.timesteps import TimestepBinMeans
from tenshot.distributed.sharding import shard
from tenshot.errors import InputError
from tenshot.lightning_modules.data_checks import check_images
from tenshot.lightning_modules.no_drawing import DrawsNothing
from tenshot.lightning_modules.optimization import build_optimizer, with_schedule
from tenshot.models import UNetClassifier, UNetConfig

__all__ = ["NoisyClassifier"]


class NoisyClassifier(DrawsNothing):
    """Train a classifier of noisy images, to guide a diffusion model by (--model.guidance of DDPM).

    Args:
        classifier: Architecture of the encoder, with the number of classes as out_channels; it ends in an attention
            pool. Not needed where init_from tells it.
        diffusion: The noise process: steps, schedule and rescale_timesteps of the diffusion model that is to be guided.
            Not needed where init_from tells it.
        init_from: Weights to start from: a checkpoint of tenshot, a file of tenshot convert, or a public
            guided-diffusion classifier. For another number of classes the last layer starts anew.
        init_weights: Which weights of a tenshot checkpoint to start from, the averaged or the raw ones.
        optimizer: Built from the parameters.
        lr_scheduler: Built from the optimiser, stepped every optimiser step.
        compile: Compile the network with torch.compile, as in DDPM.
    """

    averaged = ("classifier",)
    """Submodules that an EMA follows."""

    instead = "draw from a diffusion model, with the classifier's run as its --model.guidance.classifier"

    def __init__(
        self,
        classifier: UNetConfig | None = None,
        diffusion: DiffusionConfig | None = None,
        init_from: str | None = None,
        init_weights: Weights = "ema",
        optimizer: OptimizerCallable = lambda params: AdamW(params, lr=3e-4, weight_decay=0.05),
        lr_scheduler: LRSchedulerCallable | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if init_from is None and classifier is None:
            raise InputError(
                "NoisyClassifier needs a network: give --model.classifier, or weights to start from with "
                "--model.init_from"
            )
        self.classifier_config, self.diffusion_config = classifier, diffusion
        self.init_from, self.init_weights = init_from, init_weights
        self.optimizer, self.lr_scheduler, self.compile_network = optimizer, lr_scheduler, compile
        self.classifier: UNetClassifier
        names = ("loss", "accuracy@1", "accuracy@5")
        self.val_means = nn.ModuleDict({name: MeanMetric(nan_strategy="disable") for name in names})

    def configure_model(self) -> None:
        """Build the network, with the weights of init_from.

        Raises:
            InputError: init_from cannot be read or does not fit.
        """
        if "classifier" in self._modules:
            return
        config, process, initial = self.classifier_config, self.diffusion_config or DiffusionConfig(), None
        if self.init_from is not None:
            overrides = asdict(config) if config else {}
            overrides.pop("out_channels", None)  # a public file tells its classes
            initial = read(self.init_from, CLASSIFIER, self.init_weights, overrides)
            config, process = config or initial.config, process_for(initial, self.diffusion_config)
        assert config is not None
        self.classifier_config, self.diffusion_config = config, process
        self.diffusion = GaussianDiffusion(process)
        self.bins = TimestepBinMeans(process.num_steps)
        self.classifier = UNetClassifier(config)
        if initial is not None:
            self.weights_origin = start_from(self._with_classes(initial), self)
        shard(self.classifier, self)
        if self.compile_network:
            self.classifier.compile()

    def _with_classes(self, initial: Trained[UNetConfig]) -> Trained[UNetConfig]:
        """The weights that were read, for another number of classes with this network's last layer."""
        if initial.config.out_channels == self.classifier.config.out_channels:
            return initial
        new = {name: value for name, value in self.classifier.state_dict().items() if name.startswith("pool.proj.")}
        origin = f"{initial.origin}, with a new last layer: it had {initial.config.out_channels} classes"
        return replace(initial, states={"classifier": {**initial.states["classifier"], **new}}, origin=origin)

    def on_fit_start(self) -> None:
        """Check that the images suit the network.

        Raises:
            InputError: They have no labels, or another size or number of classes.
        """
        config, data = self.classifier.config, getattr(self.trainer, "datamodule", None)
        check_images(data, config, "--model.classifier")
        classes = getattr(data, "num_classes", None)
        if classes is None:
            raise InputError("NoisyClassifier learns from labels, the data has none: set --data.labels true")
        if classes != config.out_channels:
            raise InputError(
                f"the classifier has {config.out_channels} classes (--model.classifier.out_channels), the data "
                f"{classes}: make them equal"
            )

    def on_validation_start(self) -> None:
        """Check the same where only validation runs."""
        self.on_fit_start()

    def scores(self, batch: dict[str, Any], t: Tensor) -> dict[str, Tensor]:
        """Noise the images of a batch and classify them: cross entropy, and whether the label is among the first.

        t: (N,) int64  ->  name: (N,) float32
        """
        x, labels = batch["image"], batch["condition"]["label"]
        x_t = self.diffusion.q_sample(x, t, torch.randn_like(x))
        logits = self.classifier(x_t, self.diffusion.model_timesteps(t))  # (N, K)
        # A class of the same logit counts as being ahead, so that a network that cannot tell is right about nothing.
        rank = (~(logits < logits.gather(1, labels.view(-1, 1)))).sum(1)  # (N,), 1 the first
        right = {f"accuracy@{k}": (rank <= k).float() for k in (1, 5)}
        return {"loss": F.cross_entropy(logits.float(), labels, reduction="none")} | right

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One micro-batch at uniform timesteps."""
        t = torch.randint(self.diffusion.num_steps, (len(batch["image"]),), device=self.device)
        scores = self.scores(batch, t)
        loss = scores["loss"].mean()
        self.log("train/loss", loss)
        self.log_dict({f"train/{name}": value.mean() for name, value in scores.items() if name != "loss"})
        self.bins.update(scores, t)
        trainer = cast(Any, self._trainer)  # none where a step is taken alone
        if trainer and (batch_idx + 1) % (trainer.log_every_n_steps * trainer.accumulate_grad_batches) == 0:
            self.log_dict({f"train/{name}": value for name, value in self.bins.pop().items()})
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The same at fixed timesteps and noise, over all images of all ranks."""
        t = torch.randint(self.diffusion.num_steps, (len(batch["image"]),), device=self.device)
        for name, value in self.scores(batch, t).items():
            mean = cast(MeanMetric, self.val_means[name])
            mean.update(value)
            self.log(f"val/{name}", mean, batch_size=len(value))

    def configure_optimizers(self) -> Any:
        """The optimiser of the network's weights, with its schedule in optimiser steps."""
        optimizer = build_optimizer("--model.optimizer", self.optimizer, self.classifier.parameters())
        return with_schedule(optimizer, self.lr_scheduler)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the checkpoint is, and the losses that are not logged yet."""
        checkpoint["tenshot"] = describe(CLASSIFIER, self.classifier.config, type(self).__name__, self.diffusion.config)
        checkpoint["timestep_bins"] = self.bins.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make sure that it fits.

        Raises:
            InputError: It is a checkpoint of another network.
        """
        refuse_other(self, checkpoint, CLASSIFIER, self.classifier.config, self.diffusion.config)
        self.bins.load_from(checkpoint, self.device)
