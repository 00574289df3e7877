"""What samples are conditioned on: one choice, alike for ``predict``, ``test`` and sample grids."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tenshot.errors import InputError

__all__ = ["ConditionOf", "Conditions", "Labels"]

Labels = Literal["random", "uniform"]

ConditionOf = Callable[[Tensor], dict[str, Tensor]]
"""The condition of samples by their numbers: (N,) int64  ->  tensors by name, each of first dimension N."""


@dataclass(frozen=True)
class Conditions:
    """Which condition each sample is drawn with: a function of its number alone.

    Args:
        group: Group of the options on the command line, such as ``images``.
        label: The class of all samples.
        labels: ``uniform``: sample i is of class i mod K, so that each of the K classes comes equally often;
            ``random``, which is what neither option means: the method draws each class from the sample's own seed.

    Raises:
        InputError: Both are given, or the label is no class.
    """

    group: str
    label: int | None = None
    labels: Labels | None = None

    def __post_init__(self) -> None:
        if self.label is not None and self.labels is not None:
            raise InputError(
                f"--{self.group}.label {self.label} and --{self.group}.labels {self.labels} exclude each other: leave "
                "one out"
            )
        if self.label is not None and self.label < 0:
            raise InputError(f"--{self.group}.label is {self.label}: classes are numbered from 0")

    @property
    def recorded(self) -> dict[str, Any] | None:
        """What files of samples and measurements say of it; None where nothing was chosen, as in those of old."""
        if self.label is not None:
            return {"label": self.label}
        return {"labels": "uniform"} if self.labels == "uniform" else None

    def of(self, method: object) -> ConditionOf | None:
        """The conditions for a method, once its networks are built; None where it draws them itself.

        Args:
            method: Its ``num_classes`` is the number of its classes, K.

        Raises:
            InputError: It has no such class, or none at all.
        """
        if self.recorded is None:
            return None
        classes: int | None = getattr(method, "num_classes", None)
        if classes is None:
            (option,) = self.recorded
            raise InputError(
                f"--{self.group}.{option} chooses classes, but this {type(method).__name__} has none: leave the option "
                "out"
            )
        label = self.label
        if label is None:
            return lambda index: {"label": index % classes}
        if label >= classes:
            raise InputError(
                f"--{self.group}.label is {label}: the model has {classes} classes, choose one of 0 … {classes - 1}"
            )
        return lambda index: {"label": torch.full_like(index, label)}
