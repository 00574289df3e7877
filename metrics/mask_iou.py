"""Whether generated images show the classes of the masks that they were drawn from."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_confusion_matrix

from tenshot.datamodules.pairs import ConditionKind, class_map
from tenshot.errors import InputError
from tenshot.metrics.base import Report
from tenshot.metrics.predictor_metric import TRUE_IMAGES, PredictorMetric, beside_true_images

__all__ = ["MaskIoU"]


class MaskIoU(PredictorMetric):
    """Intersection over union of the masks and of what a segmenter finds in the samples.

    ``miou``: the mean over classes of pixels that both have over pixels that one of them has, counted over all images;
    ``pixel_accuracy``: share of the pixels whose class is found. Pixels without a class count for nothing, neither does
    what the segmenter finds there. Classes that neither have are left out of the mean; one that the masks lack and the
    segmenter finds counts as 0. ``details`` has the value of each class.

    Args:
        segmenter: See :class:`PredictorMetric`.
        kind: What the masks are.
    """

    needs = ("mask", "predictor")
    more_is_better = (True, None, True, None)
    wanted = "a segmenter gives (N, classes, H, W)"
    confusion: Tensor
    real_confusion: Tensor
    images: Tensor
    real_images: Tensor

    def __init__(self, segmenter: str | nn.Module, kind: ConditionKind | None = None) -> None:
        super().__init__(segmenter, kind or ConditionKind("mask"))
        for which in ("", "real_"):
            self.add_sum(f"{which}confusion", torch.zeros(0, dtype=torch.int64))  # (classes, classes), mask by found
            self.add_sum(f"{which}images", torch.tensor(0))

    def update(self, images: Tensor, condition_image: Tensor, real: bool = False) -> None:
        """Add images.

        Args:
            images: (N, 3, H, W), float in [-1, 1] or uint8.
            condition_image: The masks they were drawn from, in the colours of the palette, uint8 (N, 3, S, S).
            real: Whether they are the true images of these masks, not generated.

        Raises:
            InputError: A mask has a class that the segmenter does not know.
        """
        which = "real_" if real else ""
        for found, masks in self.found(images, condition_image) if len(images) else ():
            classes, known = class_map(masks, self.kind.unlabelled), found.shape[1]
            if (most := int(classes.max())) >= known:
                raise InputError(
                    f"a mask has class {most}, the segmenter {known} classes, numbered from 0: give one that was "
                    "trained on such masks"
                )
            confusion = multiclass_confusion_matrix(
                found.argmax(1), classes, known, ignore_index=-1, validate_args=False
            ).cpu()
            before = getattr(self, f"{which}confusion")
            setattr(self, f"{which}confusion", before + confusion if before.numel() else confusion)
        setattr(self, f"{which}images", getattr(self, f"{which}images") + len(images))

    def names(self) -> tuple[str, ...]:
        """Mean over classes, and share of the pixels, each followed by that of the true images."""
        return beside_true_images(("miou", "pixel_accuracy"))

    def evaluate(self) -> Report:
        """All of it; NaN where no pixel has a class."""
        settings = {"n_generated": int(self.images), "n_real": int(self.real_images)} | self.settings()
        values: dict[str, float] = {}
        details: dict[str, Any] = {}
        for confusion, name in ((self.confusion, ""), (self.real_confusion, TRUE_IMAGES)):
            both = confusion.diagonal() if confusion.numel() else confusion
            either = confusion.sum(0) + confusion.sum(1) - both if confusion.numel() else confusion
            iou = both[either > 0].double() / either[either > 0]
            values[f"miou{name}"] = float(iou.mean()) if len(iou) else math.nan
            values[f"pixel_accuracy{name}"] = float(both.sum() / confusion.sum()) if len(iou) else math.nan
            details[f"class_iou{name}"] = [
                int(part) / int(whole) if whole else None for part, whole in zip(both, either, strict=True)
            ]
        if any(map(math.isnan, values.values())):
            details["why"] = "no pixel of the masks has a class" if int(self.images) else "there is no image"
        return Report({name: values[name] for name in self.names()}, settings | {"classes": self.kind.classes}, details)
