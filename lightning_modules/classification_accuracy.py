"""The classification accuracy score: how well a classifier sees real images that was trained on samples alone."""

from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import SGD
from torchmetrics import MeanMetric
from torchvision import models
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import center_crop

from tenshot.errors import InputError, check_range
from tenshot.lightning_modules.no_drawing import DrawsNothing
from tenshot.lightning_modules.optimization import build_optimizer, with_schedule
from tenshot.losses.arithmetic import check_choice

__all__ = ["ClassificationAccuracyScore", "random_crops"]

Network = Literal["resnet18", "resnet50"]


class ClassificationAccuracyScore(DrawsNothing):
    """Train a classifier of the data's classes from scratch, and test it on the validation images (arXiv 1905.10887).

    The score is ``cas/top1`` of the last step where the training images are samples (data ``SampleFolder``) and the
    validation images are real; ``tenshot cas`` does the whole. With real training images it is the number to compare
    with. The classifier is torchvision's, its training the one of torchvision's published ResNets.

    Args:
        network: Of torchvision.
        crop: Side of what the classifier sees: random parts of training images, resized, and the centre of validation
            images. None: 7/8 of the images, as 224 of 256.
        crop_area: The least part of a training image that is cropped.
        optimizer: Built from the parameters.
        lr_scheduler: Built from the optimiser, stepped every optimiser step.

    Raises:
        InputError: A value is out of its range.
    """

    averaged = ()
    """No EMA: the published training has none."""

    instead = "tenshot validate computes its accuracy"

    def __init__(
        self,
        network: Network = "resnet50",
        crop: int | None = None,
        crop_area: float = 0.08,
        optimizer: OptimizerCallable = lambda params: SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-4),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        check_choice("--model.network", network, Network)
        if crop is not None:
            check_range("--model.crop", crop, 1)
        check_range("--model.crop_area", crop_area, 0, 1, above=True)
        self.network_name, self.crop, self.crop_area = network, crop, crop_area
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.network: nn.Module
        names = ("loss", "top1", "top5")
        self.means = nn.ModuleDict({name: MeanMetric(nan_strategy="disable") for name in names})

    def configure_model(self) -> None:
        """Build the network for the classes of the data.

        Raises:
            InputError: The images have no labels, or are smaller than the crop, or there are none to test on.
        """
        if "network" in self._modules:
            return
        data = cast(Any, self.trainer).datamodule
        if data.num_classes is None:
            raise InputError(
                "ClassificationAccuracyScore learns from labels, the data has none: set --data.labels true"
            )
        if data.val_source is None:
            raise InputError(
                "ClassificationAccuracyScore is tested on real images, there are none: set --data.val_root (or num_val)"
            )
        self.crop = self.crop or max(1, data.image_size * 7 // 8)
        if self.crop > data.image_size:
            raise InputError(
                f"--model.crop is {self.crop}, the images have {data.image_size} px (--data.image_size): lower it"
            )
        self.network = models.get_model(self.network_name, weights=None, num_classes=data.num_classes)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Cross entropy of random parts of the images."""
        assert self.crop is not None
        x = random_crops(batch["image"], self.crop, self.crop_area)  # (N, 3, crop, crop)
        logits = self.network(x)
        loss = F.cross_entropy(logits.float(), batch["condition"]["label"])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Whether the class of real images is the first, and among the first five, over all images of all ranks."""
        assert self.crop is not None
        labels = batch["condition"]["label"]
        logits = self.network(center_crop(batch["image"], [self.crop, self.crop])).float()  # (N, K)
        # A class of the same logit counts as being ahead: a network that cannot tell is right about nothing.
        rank = (~(logits < logits.gather(1, labels.view(-1, 1)))).sum(1)  # (N,), 1 the first
        scores = {"loss": F.cross_entropy(logits, labels, reduction="none")}
        for name, value in (scores | {f"top{k}": (rank <= k).float() for k in (1, 5)}).items():
            mean = cast(MeanMetric, self.means[name])
            mean.update(value)
            self.log(f"cas/{name}", mean, batch_size=len(value))

    def configure_optimizers(self) -> Any:
        """The optimiser of the network's weights, with its schedule in optimiser steps."""
        optimizer = build_optimizer("--model.optimizer", self.optimizer, self.network.parameters())
        return with_schedule(optimizer, self.lr_scheduler)


def random_crops(images: Tensor, side: int, least_area: float) -> Tensor:
    """A random part of each image, of its own place, size and aspect ratio (3/4 to 4/3), resized with antialiasing.

    Drawn by PyTorch's global generator of the CPU, as torchvision's ``RandomResizedCrop`` draws them. All are resized
    together: torchvision's bilinear filter as two matrices for each image, which is equal but for rounding.

    Args:
        images: (N, C, H, W).
        side: Of the results.
        least_area: Least part of an image's area, in (0, 1].

    Returns:
        (N, C, side, side)
    """
    boxes = [RandomResizedCrop.get_params(image, [least_area, 1.0], [3 / 4, 4 / 3]) for image in images]
    top, left, height, width = torch.tensor(boxes, dtype=torch.float64).t().to(images.device)
    rows = _resampling(top, height, side, images.shape[2]).to(images.dtype)
    columns = _resampling(left, width, side, images.shape[3]).to(images.dtype)
    with torch.autocast(images.device.type, enabled=False):
        return rows.unsqueeze(1) @ images @ columns.mT.unsqueeze(1)


def _resampling(begin: Tensor, length: Tensor, side: int, pixels: int) -> Tensor:
    """How much each pixel of a row counts in each of the resized part of it: a triangle, wider where it gets smaller.

    begin, length: (N,) of the parts, in pixels  ->  (N, side, pixels)
    """
    begin, length = begin.view(-1, 1, 1), length.view(-1, 1, 1)
    places = torch.arange(max(side, pixels), device=begin.device) + 0.5
    scale, pixel = length / side, places[:pixels]
    distance = (pixel - begin - scale * places[:side].view(-1, 1)).abs()
    weights = (1 - distance / scale.clamp(min=1)).clamp(min=0) * ((pixel > begin) & (pixel < begin + length))
    return weights / weights.sum(-1, keepdim=True)
