"""The classes that the command line knows by their short names, and all the options there are."""

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from lightning.pytorch import LightningDataModule, LightningModule

from tenshot.datamodules import FewShot, ImageFolder, Paired, SampleFolder, SyntheticFaces
from tenshot.lightning_modules import (
    CDC,
    DDPM,
    DDPMPA,
    PITI,
    Cascade,
    ClassificationAccuracyScore,
    DensePredictor,
    FolderGenerator,
    MixDL,
    NoisyClassifier,
    PITIUpsampler,
    StyleGAN2,
    SuperResolution,
)

__all__ = ["CLASSES", "DATA", "METHODS", "UNTRAINED", "class_options", "owners", "parameters"]

METHODS: tuple[type[LightningModule], ...] = (
    DDPM,
    DDPMPA,
    SuperResolution,
    PITI,
    PITIUpsampler,
    NoisyClassifier,
    DensePredictor,
    ClassificationAccuracyScore,
    StyleGAN2,
    CDC,
    MixDL,
    Cascade,
    FolderGenerator,
)
UNTRAINED = (Cascade.__name__, FolderGenerator.__name__)
"""Names of those that draw from what they are configured with, not from a checkpoint."""
DATA: tuple[type[LightningDataModule], ...] = (FewShot, ImageFolder, Paired, SampleFolder, SyntheticFaces)
CLASSES = {"model": METHODS, "data": DATA}


def class_options() -> Iterator[str]:
    """``model.unet.channels`` and so on, for every parameter of every class."""
    for group, classes in CLASSES.items():
        for cls in classes:
            yield from (f"{group}.{name}" for name in parameters(cls))


def owners(option: str) -> list[str]:
    """The names of the classes that have an option, which is dotted, with its group and without dashes."""
    group, _, name = option.partition(".")
    return [cls.__name__ for cls in CLASSES.get(group, ()) if name in parameters(cls)]


def parameters(cls: type[Any]) -> Iterator[str]:
    """``unet.channels`` and so on: the parameters of a class, and the fields of those that are dataclasses."""
    hints = get_type_hints(cls.__init__)
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:  # for the parent, but for what it gives that itself
            fixed = getattr(cls, "fixed", ())
            yield from (each for each in parameters(cls.__mro__[1]) if each.split(".")[0] not in fixed)
            continue
        yield name
        for kind in _alternatives(hints.get(name)):
            if is_dataclass(kind) and isinstance(kind, type):
                yield from (f"{name}.{inner}" for inner in parameters(kind))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
