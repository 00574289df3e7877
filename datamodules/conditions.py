"""What samples are conditioned on: one choice, alike for ``predict``, ``test`` and sample grids."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tenshot.datamodules.base import ImageDataModule
from tenshot.datamodules.batches import Source
from tenshot.datamodules.condition_files import ConditionFiles
from tenshot.datamodules.low_res_folder import LowResFolder
from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import InputError, check_range

__all__ = ["BY_NAME", "ConditionOf", "Conditions", "Labels", "told_of"]

Labels = Literal["random", "uniform", "data"]

BY_NAME = "files, each by its name"
"""What is said of the conditions of samples that are drawn from files."""

HASHED = 256
"""Conditions at most, by whose content samples of others are told apart: all of a few-shot set."""

ConditionOf = Callable[[Tensor], dict[str, Tensor]]
"""The condition of samples by their numbers: (N,) int64  ->  tensors by name, each of first dimension N."""


@dataclass(frozen=True)
class Conditions:
    """Which condition each sample is drawn with: a function of its number alone.

    Args:
        group: Group of the options on the command line, such as ``images``.
        label: The class of all samples.
        labels: ``uniform``: sample i is of class i mod K, so that each of the K classes comes equally often;
            ``random``, which is what neither option means: the method draws each class from the sample's own seed;
            ``data``: sample i is of the class of training image i.
        low_res: For a method that enlarges images, a folder of those that it is to enlarge.
        data: For such a method the images whose low-resolution versions it is to enlarge, with their classes; for one
            that draws from condition images, the data that have them.
        classes: Of the training images, for ``data``, int64 (n,); ``with_classes_of`` finds them.
        files: For a method that draws from condition images, files of them in place of the data's.
        each: How many samples are drawn from each of those, one after the other.
        per_condition: How many of the samples are drawn from each condition image of the data, of which only the first
            ones serve then; None: all serve, in turn.
        samples: How many there are, for that.

    Raises:
        InputError: Both are given, the label is no class, or no samples are to be drawn.
    """

    group: str
    label: int | None = None
    labels: Labels | None = None
    low_res: str | None = None
    data: ImageDataModule | None = None
    classes: Tensor | None = field(default=None, compare=False)
    files: ConditionFiles | None = field(default=None, compare=False)
    each: int = 1
    per_condition: int | None = None
    samples: int = 0

    def __post_init__(self) -> None:
        if self.label is not None and self.labels is not None:
            raise InputError(
                f"--{self.group}.label {self.label} and --{self.group}.labels {self.labels} exclude each other: leave "
                "one out"
            )
        if self.per_condition is not None:
            check_range(f"--{self.group}.per_condition", self.per_condition, 1)
        if self.label is not None and self.label < 0:
            raise InputError(f"--{self.group}.label is {self.label}: classes are numbered from 0")

    @property
    def recorded(self) -> dict[str, Any] | None:
        """What files of samples and measurements say of it; None where nothing was chosen, as in those of old."""
        if self.label is not None:
            return {"label": self.label}
        if self.labels == "data":
            told = b"" if self.classes is None else self.classes.numpy().tobytes()
            return {"labels": f"data {hashlib.sha256(told).hexdigest()[:16]}"}
        return {"labels": "uniform"} if self.labels == "uniform" else None

    def with_classes_of(self, data: object) -> "Conditions":
        """The same, which knows the classes of training images where those decide.

        Raises:
            InputError: The data have no labels.
        """
        if self.labels != "data":
            return self
        classes = data.train_classes() if isinstance(data, ImageDataModule) else None
        if classes is None:
            raise InputError(
                f"--{self.group}.labels data takes the classes of training images, but the data have no labels: give "
                "--data, with --data.labels true"
            )
        return replace(self, classes=classes)

    def of(self, method: object) -> ConditionOf | None:
        """The conditions for a method, once its networks are built; None where it draws them itself.

        Sample i of a method that enlarges images is drawn from image i, and again from the first after the last; so is
        sample i of one that draws from condition images from that of image i; one that does both is given both.

        Args:
            method: Its ``num_classes`` is the number of its classes, K; one that enlarges images has ``low_res_size``
                and makes a condition of images by ``condition_from``; one that draws from what the data give beside
                images names that by ``condition_name``.

        Raises:
            InputError: It has no such class, or none at all; or it enlarges images and there are none, or the reverse;
                or the data do not give what it draws from.
        """
        parts = [part for part in (self._enlarged_by(method), self._given_to(method), self._labels_of(method)) if part]
        if not parts:
            return None
        return lambda index: {name: rows for part in parts for name, rows in part(index).items()}

    def true_images(self, method: object) -> Callable[[Tensor], Tensor] | None:
        """The images beside the condition images that a method draws from, by the numbers of samples: (N,) int64 ->
        uint8 (N, 3, H, W); None of other methods, and where files of conditions are drawn from.
        """
        if getattr(method, "condition_name", None) is None or self.data is None or self.files is not None:
            return None
        source = _images(self.data)
        return lambda index: source.read((index % len(source)).tolist())["image"]

    def enlarged(self, method: object) -> dict[str, str] | None:
        """What files of samples and measurements say of the images that a method enlarges, or of the condition images
        that it draws from; None of other methods.
        """
        name, told = getattr(method, "condition_name", None), dict[str, str]()
        if name is not None and self.files is not None:
            told |= {f"{name}_of": BY_NAME}
        elif name is not None and self.data is not None:
            told |= told_of(name, *self.pairs)
        if not hasattr(method, "low_res_size"):
            return told or None
        if self.low_res is not None and self.files is not None:
            return told | {"low_res_of": BY_NAME}
        folder = self.small(method)
        if folder is not None:
            return told | {"low_res_sha256": folder.sha256}
        return told | {"low_res_of": str(_images(self.data))} if self.data is not None else None

    @property
    def pairs(self) -> tuple[Source, int]:
        """Images with their conditions, and how many of them, the first ones, samples are drawn from: sample i from
        number i modulo that.
        """
        assert self.data is not None
        source = _images(self.data)
        count = len(source) if self.per_condition is None else -(-self.samples // self.per_condition)
        return source, min(count, len(source))

    def count(self, method: object) -> int | None:
        """How many images there are to be enlarged in the folder, or to be drawn from files of conditions, or training
        images of which each sample takes the class; None where nothing tells.
        """
        if self.files is not None:
            return len(self.files) * self.each
        if self.classes is not None:
            return len(self.classes)
        folder = self.small(method)
        return None if folder is None else len(folder)

    @property
    def numbers(self) -> Tensor | None:
        """Which number of a seed each sample is drawn by; None where that is its own."""
        return None if self.files is None else self.files.numbers(self.each)

    def small(self, method: object) -> LowResFolder | None:
        """The folder of images to enlarge; where files of conditions are drawn from, those that are named after them.

        Raises:
            InputError: As ``LowResFolder``.
        """
        if self.low_res is None or not hasattr(method, "low_res_size"):
            return None
        files, each = self.files, self.each
        names = None if files is None else [files.sample(number, each) for number in range(len(files) * each)]
        return LowResFolder(self.low_res, method.low_res_size, f"--{self.group}.low_res", names)

    def _given_to(self, method: object) -> ConditionOf | None:
        """What the data give beside images, for a method that draws from that."""
        name, drawer = getattr(method, "condition_name", None), type(method).__name__
        if name is None and self.files is not None:
            raise InputError(
                f"{self.files.option} gives condition images, which this {drawer} does not draw from: leave the option "
                "out"
            )
        if name is None:
            return None
        if self.files is not None:
            files, each = self.files, self.each
            return lambda index: {name: files.read((index // each).tolist())}
        if self.data is None:
            raise InputError(f"{drawer} draws from what the data give beside images: give --data, Paired for example")
        source, count = self.pairs
        if name not in source.read([0]):
            raise InputError(
                f"{drawer} draws from {name}, which {source} do not give: take --data Paired, or --data SyntheticFaces "
                "with --data.pairs"
            )
        return lambda index: {name: source.read((index % count).tolist())[name]}

    def _enlarged_by(self, method: object) -> ConditionOf | None:
        make = getattr(method, "condition_from", None)
        if make is None:
            if self.low_res is not None:
                raise InputError(
                    f"--{self.group}.low_res gives images to enlarge, which {type(method).__name__} does not: leave "
                    "the option out"
                )
            return None
        folder = self.small(method)
        if folder is not None:
            return lambda index: {"low_res": folder.read((index % len(folder)).tolist())}
        if self.data is None or self.group == "images":
            remedy = "give a folder of them with --images.low_res" if self.group == "images" else "give --data"
            raise InputError(f"{type(method).__name__} enlarges images: {remedy}")
        source, count = self.pairs

        def of_data(index: Tensor) -> dict[str, Tensor]:
            batch = source.read((index % count).tolist())
            labels = {"label": batch["label"]} if "label" in batch else {}
            return {**make(from_pixels(batch["image"])), **labels}

        return of_data

    def _labels_of(self, method: object) -> ConditionOf | None:
        if self.recorded is None:
            return None
        classes: int | None = getattr(method, "num_classes", None)
        if classes is None:
            (option,) = self.recorded
            raise InputError(
                f"--{self.group}.{option} chooses classes, but this {type(method).__name__} has none: leave the option "
                "out"
            )
        label, table = self.label, self.classes
        if self.labels == "data":
            if table is None:
                raise InputError(
                    f"--{self.group}.labels data is for predict and test alone: choose uniform, or a label"
                )
            if table.max() >= classes:
                raise InputError(
                    f"--{self.group}.labels data: the data have {int(table.max()) + 1} classes, the model {classes}: "
                    "give the data that it was trained on"
                )
            return lambda index: {"label": table.to(index.device)[index % len(table)]}
        if label is None:
            return lambda index: {"label": index % classes}
        if label >= classes:
            raise InputError(
                f"--{self.group}.label is {label}: the model has {classes} classes, choose one of 0 … {classes - 1}"
            )
        return lambda index: {"label": torch.full_like(index, label)}


def told_of(name: str, source: Source, count: int | None = None) -> dict[str, str]:
    """Which conditions they are: how many of what (``count``: the first so many), and a hash of all there are, or of so
    many that are spread over them.
    """
    some = "" if count in (None, len(source)) else f"the first {count} of "
    chosen = sorted({round(step * (len(source) - 1) / (HASHED - 1)) for step in range(HASHED)})
    rows = source.read(chosen)[name]
    digest = hashlib.sha256(str(tuple(rows.shape)).encode() + rows.numpy().tobytes()).hexdigest()
    return {f"{name}_of": f"{some}{source}, sha256 {digest[:16]}"}


def _images(data: ImageDataModule) -> Source:
    """Those whose conditions are drawn from: what is not trained on, if there is any."""
    return data.val_source or data.train_source
