"""The network that finds mask, depth or normals in an image, so that samples can be compared with their conditions."""

import warnings
from typing import Any, cast

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from tenshot.checkpoints import PREDICTOR, Weights, describe, read, refuse_other, start_from
from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.datamodules.pairs import (
    ConditionKind,
    class_map,
    depth_map,
    normal_map,
    part_of_condition,
    require_grey,
)
from tenshot.distributed.sharding import shard
from tenshot.errors import InputError
from tenshot.lightning_modules.data_checks import check_images
from tenshot.lightning_modules.no_drawing import DrawsNothing
from tenshot.lightning_modules.optimization import build_optimizer, with_schedule
from tenshot.models import UNet, UNetConfig

__all__ = ["DensePredictor"]

OUTPUTS = {"depth": 1, "normals": 3, "geometry": 4}
"""Channels of what is found, normals before depth; of masks it is the number of classes."""

MOST_LOOKED_AT = 1000
"""Of more pairs, classes are looked at batch by batch."""


class DensePredictor(DrawsNothing):
    """Learn from pairs to find an image's mask (a segmenter), depth or normals, whichever the data have.

    ``tenshot test`` measures by it whether samples show what they were drawn from (--evaluate.predictor). The network
    is the U-Net of the diffusion methods at timestep 0, as large as the images; conditions are brought to their size by
    the nearest pixel.

    Args:
        predictor: Architecture, with as many out_channels as masks have classes; 1 for depth, 3 for normals, 4 for
            both. Not needed where init_from tells it.
        init_from: A run, checkpoint or converted file of it to start from.
        init_weights: Which weights of a checkpoint to start from, the averaged or the raw ones.
        optimizer: Built from the parameters.
        lr_scheduler: Built from the optimiser, stepped every optimiser step.
        compile: Compile the network with torch.compile, as in DDPM.
    """

    averaged = ("predictor",)
    """Submodules that an EMA follows."""

    instead = "measure the samples of other methods by its run, with --evaluate.predictor"

    def __init__(
        self,
        predictor: UNetConfig | None = None,
        init_from: str | None = None,
        init_weights: Weights = "ema",
        optimizer: OptimizerCallable = lambda params: AdamW(params, lr=1e-3, weight_decay=0.01),
        lr_scheduler: LRSchedulerCallable | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if init_from is None and predictor is None:
            raise InputError(
                "DensePredictor needs a network: give --model.predictor, or weights to start from with "
                "--model.init_from"
            )
        self.predictor_config, self.init_from, self.init_weights = predictor, init_from, init_weights
        self.optimizer, self.lr_scheduler, self.compile_network = optimizer, lr_scheduler, compile
        self.predictor: UNet
        self.shows: ConditionKind
        """What the condition images are that it learns to find."""
        self.val_loss = MeanMetric(nan_strategy="disable")
        self.val_scores = nn.ModuleDict()

    def configure_model(self) -> None:
        """Build the network, with the weights of init_from.

        Raises:
            InputError: init_from cannot be read or does not fit.
        """
        if "predictor" in self._modules:
            return
        config, initial = self.predictor_config, None
        if self.init_from is not None:
            initial = read(self.init_from, PREDICTOR, self.init_weights)
            config = initial.config_for(config)
        assert config is not None
        self.predictor_config = config
        self.predictor = UNet(config)
        if initial is not None:
            self.weights_origin = start_from(initial, self)
        shard(self.predictor, self)
        if self.compile_network:
            self.predictor.compile()

    # What it is trained on

    def on_fit_start(self) -> None:
        """Check that the pairs suit the network.

        Raises:
            InputError: There are none, or none that show what can be found, or of another size or number of classes.
        """
        warnings.filterwarnings("ignore", message="You have overridden `on_before_batch_transfer`")  # as it should be
        data, config = cast(Any, self.trainer).datamodule, self.predictor.config
        check_images(data, config, "--model.predictor")
        self.shows = _findable(getattr(data, "condition_kind", None))
        wanted = OUTPUTS.get(self.shows.name, self.shows.num_classes)
        if wanted is not None and config.out_channels != wanted:
            raise InputError(
                f"the network has {config.out_channels} outputs (--model.predictor.out_channels), "
                f"{self.shows.name} of these data {wanted}: make them equal"
            )
        if self.shows.name != "mask":
            return
        if config.out_channels < 2:
            raise InputError("--model.predictor.out_channels is 1: masks have two classes or more")
        for source in (data.train_source, data.val_source) if wanted is None else ():
            if source is not None and len(source) <= MOST_LOOKED_AT:
                for start in range(0, len(source), 16):
                    self._refuse_unfit(source.read(range(start, min(start + 16, len(source))))[CONDITION_IMAGE])
        scores = {"miou": MulticlassJaccardIndex, "pixel_accuracy": MulticlassAccuracy}
        for name, score in scores.items():
            average = "macro" if name == "miou" else "micro"
            built = score(config.out_channels, average=average, ignore_index=-1, validate_args=False)
            self.val_scores[name] = built.to(self.device)

    def on_validation_start(self) -> None:
        """Check the same where only validation runs."""
        if not self.val_scores:
            self.on_fit_start()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Look at the conditions before an accelerator does, which would stop at a class that it does not have.

        Raises:
            InputError: A class that the network does not have, or depth in colours.
        """
        self._refuse_unfit(batch[CONDITION_IMAGE])
        return batch

    def _refuse_unfit(self, condition: Tensor) -> None:
        if "depth" in self.shows.parts:
            require_grey(part_of_condition(condition, self.shows, "depth"))
        if self.shows.name == "mask":
            classes, known = class_map(condition, self.shows.unlabelled), self.predictor.config.out_channels
            if (most := int(classes.max())) >= known:
                raise InputError(
                    f"a mask has class {most}, the network {known} classes, numbered from 0: set "
                    f"--model.predictor.out_channels to {most + 1} or more"
                )

    # Training and validation

    def losses(self, found: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Of masks the cross entropy, of depth the absolute error, of normals 1 - cosine: means over the pixels that
        have a class, a depth or a normal.

        Args:
            found: (N, C, H, W), what the network makes of the images.
            condition: uint8 (N, C', S, S).
        """
        terms, found = {}, found.float()
        for part in self.shows.parts:
            truth = F.interpolate(
                part_of_condition(condition, self.shows, part), found.shape[-2:], mode="nearest-exact"
            )
            if part == "mask":
                classes = class_map(truth, self.shows.unlabelled)  # (N, H, W)
                error, known = F.cross_entropy(found, classes, ignore_index=-1, reduction="none"), classes >= 0
            elif part == "depth":
                depth = depth_map(truth)
                error, known = (found[:, -1] - depth).abs(), depth > 0
            else:
                normals, known = normal_map(truth)
                error = 1 - F.cosine_similarity(found[:, :3], normals, dim=1)
            terms[part] = (error * known).sum() / known.sum().clamp(min=1)
        return terms

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One micro-batch."""
        terms = self.losses(self(batch["image"]), batch["condition"][CONDITION_IMAGE])
        loss = torch.stack(list(terms.values())).sum()
        self.log("train/loss", loss)
        if len(terms) > 1:
            self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The loss and, of masks, mean IoU over classes and accuracy of the pixels, over all images of all ranks."""
        found, condition = self(batch["image"]), batch["condition"][CONDITION_IMAGE]
        terms = self.losses(found, condition)
        self.val_loss.update(torch.stack(list(terms.values())).sum(), weight=len(found))
        self.log("val/loss", self.val_loss, batch_size=len(found))
        for name, score in self.val_scores.items():
            truth = F.interpolate(condition, found.shape[-2:], mode="nearest-exact")
            cast(Any, score).update(found.argmax(1), class_map(truth, self.shows.unlabelled))
            self.log(f"val/{name}", cast(Any, score), batch_size=len(found))

    def forward(self, images: Tensor) -> Tensor:
        """What is found in images: (N, 3, H, W) in [-1, 1]  ->  (N, C, H, W), logits of classes, normals, depth."""
        return cast(Tensor, self.predictor(images, images.new_zeros(len(images))))

    def configure_optimizers(self) -> Any:
        """The optimiser of the network's weights, with its schedule in optimiser steps."""
        optimizer = build_optimizer("--model.optimizer", self.optimizer, self.predictor.parameters())
        return with_schedule(optimizer, self.lr_scheduler)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the checkpoint is, and what its network finds."""
        shows: dict[str, str] = {"condition": self.shows.name}
        if self.shows.name == "mask":
            shows["classes"] = str(self.shows.classes)
        checkpoint["tenshot"] = describe(PREDICTOR, self.predictor.config, type(self).__name__, stage=shows)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make sure that it fits.

        Raises:
            InputError: It is a checkpoint of another network.
        """
        refuse_other(self, checkpoint, PREDICTOR, self.predictor.config)


def _findable(kind: ConditionKind | None) -> ConditionKind:
    """What condition images show, if a network can find it.

    Raises:
        InputError: There are no condition images, or they are sketches, or their colours are not classes.
    """
    if kind is None:
        raise InputError(
            "DensePredictor learns from pairs, the data are none: take --data Paired, or --data SyntheticFaces with "
            "--data.pairs mask"
        )
    if kind.name == "sketch":
        raise InputError(
            "DensePredictor finds masks, depth and normals; the edges of samples are compared with sketches without a "
            "network, by --evaluate.metrics edge_agreement"
        )
    if kind.name == "mask" and kind.classes is None:
        raise InputError(
            "--data.label_map ade20k_seg has classes and instances in one colour, which cannot be told apart: give "
            "masks of classes, --data.label_map ade20k"
        )
    return kind
