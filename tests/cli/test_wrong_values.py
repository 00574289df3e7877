"""Every numeric option of every class with values that it cannot have: refused in one line, or they work.

The options are found in the signatures, so that a new one is tried too. What is not refused when it is given has to
train or draw for a step.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import tiny
import torch

from tenshot.callbacks import EMA, EvaluateGenerator, ImageWriter, InterpolationStrip, SampleGrid, StepCheckpoint
from tenshot.cli.registry import _alternatives
from tenshot.datamodules import FewShot, ImageFolder, SyntheticFaces
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.lightning_modules import (
    DDPM,
    ClassifierGuidance,
    Correspondence,
    Mixup,
    Pairwise,
    Regularization,
    Sampler,
    StyleGAN2,
)
from tenshot.models import StyleGAN2Config, UNetConfig
from tenshot.models.augmentation import AdaptiveAugment

WRONG = {int: (-1, 0), float: (-1.0, 0.0, 1.5, math.nan, math.inf)}

GIVEN: dict[type, dict[str, Any]] = {
    UNetConfig: tiny.UNET,
    StyleGAN2Config: {"image_size": 32, "channel_base": 256, "max_channels": 16, "latent_dim": 8, "mapping_layers": 2},
    DiffusionConfig: {"num_steps": 50},
    Sampler: {"method": "ddim", "steps": "2"},
    ClassifierGuidance: {"classifier": "x"},
    FewShot: {"image_size": 16, "num_workers": 0, "batch_size": 4},
    ImageFolder: {"image_size": 16, "num_workers": 0, "batch_size": 4},
    SyntheticFaces: {"image_size": 16, "num_images": 12, "num_val": 0, "batch_size": 4},
    InterpolationStrip: {"every_n_steps": 1, "rows": 1, "points": 2},
    SampleGrid: {"every_n_steps": 1, "count": 2},
}
"""What each class is given beside the wrong value."""

CONFIGS = (
    UNetConfig, StyleGAN2Config, DiffusionConfig, Sampler, ClassifierGuidance, Regularization, Correspondence, Mixup,
    Pairwise, AdaptiveAugment,
)  # fmt: skip
DATA = (FewShot, ImageFolder, SyntheticFaces)
CALLBACKS = (EMA, StepCheckpoint, SampleGrid, InterpolationStrip, ImageWriter, EvaluateGenerator)
METHODS = (DDPM, StyleGAN2)


def numbers(cls: type) -> Iterator[tuple[str, Any]]:
    """(option, wrong value), in a tuple for an option that holds several."""
    hints = get_type_hints(cls.__init__)
    for name in inspect.signature(cls).parameters:
        for kind in _alternatives(hints.get(name)):
            several = getattr(kind, "__origin__", None) is tuple
            for value in WRONG.get(kind.__args__[0] if several else kind, ()):
                yield name, (value,) if several else value


CASES = [(cls, name, value) for cls in (*CONFIGS, *DATA, *CALLBACKS, *METHODS) for name, value in numbers(cls)]


def test_there_are_enough():
    assert len(CASES) > 200


@pytest.mark.parametrize(("cls", "name", "value"), CASES, ids=[f"{c.__name__}.{n}={v}" for c, n, v in CASES])
def test_a_wrong_number_is_refused_or_works(cls: type, name: str, value: Any, shots: Path, tmp_path: Path):
    given = dict(GIVEN.get(cls, {}))
    if cls in (FewShot, ImageFolder):
        given["root"] = str(shots)
    try:
        TRIED.get(cls, works_alone)(cls, {**given, name: value}, tmp_path)
    except InputError as error:
        message = str(error)
        assert "\n" not in message
        assert name in message or "respacing" in message  # what samplers call their steps
    else:
        assert not isinstance(value, float) or math.isfinite(value), "a number that is none was taken"


def works_alone(cls: type, options: dict[str, Any], folder: Path) -> None:
    cls(**options)


def trains(module: Any, data: Any, folder: Path, *callbacks: Any) -> None:
    tiny.trainer(folder, 1, *callbacks).fit(module, data)


def unet_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    trains(DDPM(unet=UNetConfig(**options), diffusion=tiny.process(), sampler=tiny.QUICK), tiny.faces(), folder)


def process_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    trains(
        DDPM(unet=tiny.unet_config(), diffusion=DiffusionConfig(**options), sampler=tiny.QUICK), tiny.faces(), folder
    )


def sampler_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    tiny.ddpm(sampler=Sampler(**options), diffusion=tiny.process()).sample(torch.arange(2))


def gan_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    module = StyleGAN2(stylegan2=StyleGAN2Config(**options))
    trains(module, tiny.faces(image_size=int(options["image_size"])), folder)


def method_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    if cls is DDPM:
        trains(tiny.ddpm(diffusion=tiny.process(), **options), tiny.faces(), folder)
    else:
        module = tiny.gan(**options)
        trains(module, tiny.faces(image_size=32), folder)
        module.sample(torch.arange(2))


def regularization_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    trains(tiny.gan(regularization=Regularization(**options)), tiny.faces(image_size=32), folder)


def augmentation_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    trains(tiny.gan(augmentation=AdaptiveAugment(**options)), tiny.faces(image_size=32), folder)


def data_work(cls: Any, options: dict[str, Any], folder: Path) -> None:
    data = cls(**options)
    data.prepare_data()
    data.setup("fit")
    next(iter(data.train_dataloader()))


def callback_works(cls: Any, options: dict[str, Any], folder: Path) -> None:
    callback = cls(**options)
    if cls is InterpolationStrip:
        trains(tiny.gan(), tiny.faces(image_size=32), folder, callback)
    elif cls in (SampleGrid, EMA, StepCheckpoint):
        extra = {"ema": callback} if cls is EMA else {}
        tiny.trainer(folder, 1, *(() if extra else (callback,)), **extra).fit(tiny.ddpm(), tiny.faces())


TRIED: dict[type, Callable[[type, dict[str, Any], Path], None]] = {
    UNetConfig: unet_works,
    DiffusionConfig: process_works,
    Sampler: sampler_works,
    StyleGAN2Config: gan_works,
    Regularization: regularization_works,
    AdaptiveAugment: augmentation_works,
    **dict.fromkeys(METHODS, method_works),
    **dict.fromkeys(DATA, data_work),
    **dict.fromkeys(CALLBACKS, callback_works),
}
