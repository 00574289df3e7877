"""Every numeric option of every class with values that it cannot have: refused in one line, or they work.

The options are found in the signatures, so that a new one is tried too. What is not refused when it is given has to
train or draw for a step. Then the command line: words for numbers, files that are none, what a Trainer does not take.
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
from tenshot.datamodules import FewShot, ImageFolder, Paired, SyntheticFaces
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.lightning_modules import (
    DDPM,
    ClassifierFreeGuidance,
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
    Paired: {"condition": "sketch", "image_size": 16, "num_workers": 0, "batch_size": 4},
    SyntheticFaces: {"image_size": 16, "num_images": 12, "num_val": 0, "batch_size": 4},
    InterpolationStrip: {"every_n_steps": 1, "rows": 1, "points": 2},
    SampleGrid: {"every_n_steps": 1, "count": 2},
}
"""What each class is given beside the wrong value."""

CONFIGS = (
    UNetConfig, StyleGAN2Config, DiffusionConfig, Sampler, ClassifierGuidance, ClassifierFreeGuidance, Regularization,
    Correspondence, Mixup, Pairwise, AdaptiveAugment,
)  # fmt: skip
DATA = (FewShot, ImageFolder, Paired, SyntheticFaces)
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
    if cls in (FewShot, ImageFolder, Paired):
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


SMALL = tiny.unet_config(**tiny.SMALL)


def trains(module: Any, data: Any, folder: Path, *callbacks: Any) -> None:
    tiny.trainer(folder, 1, *callbacks).fit(module, data)


def unet_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    trains(DDPM(unet=UNetConfig(**options), diffusion=tiny.process(), sampler=tiny.QUICK), tiny.faces(), folder)


def process_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    trains(DDPM(unet=SMALL, diffusion=DiffusionConfig(**options), sampler=tiny.QUICK), tiny.faces(), folder)


def sampler_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    tiny.ddpm(sampler=Sampler(**options), diffusion=tiny.process()).sample(torch.arange(2))


def gan_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    module = StyleGAN2(stylegan2=StyleGAN2Config(**options))
    trains(module, tiny.faces(image_size=int(options["image_size"])), folder)


def method_works(cls: type, options: dict[str, Any], folder: Path) -> None:
    if cls is DDPM:
        trains(tiny.ddpm(unet=SMALL, diffusion=tiny.process(), **options), tiny.faces(), folder)
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
        tiny.trainer(folder, 1, *(() if extra else (callback,)), **extra).fit(tiny.ddpm(unet=SMALL), tiny.faces())


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


# The command line

GROUPS = {
    UNetConfig: "model.unet", DiffusionConfig: "model.diffusion", Sampler: "model.sampler", DDPM: "model",
    SyntheticFaces: "data", EMA: "ema", StepCheckpoint: "checkpoint", SampleGrid: "grid",
}  # fmt: skip
"""Classes that a run of DDPM on drawn faces has, and what their options are called there."""

NUMBERS = sorted(
    {
        (group, str(get_type_hints(cls.__init__)[name])): f"--{group}.{name}"
        for cls, group in GROUPS.items()
        for name, _ in numbers(cls)
    }.values()
)
"""Of each type one in each class."""

TRAINER: dict[str, tuple[Any, ...]] = {
    "max_steps": (0, -2, "many"), "log_every_n_steps": (0, -1), "accumulate_grad_batches": (0, -1, 2),
    "gradient_clip_val": (-1, ".nan", 0.5), "devices": (-1, 0, "[1]", "many"),
    "precision": ("bf16-true", "64-true", "16-true", "8"), "val_check_interval": (0, -1), "limit_train_batches": (-1,),
    "accelerator": ("gpu", "abacus"), "strategy": ("fsdp", "abacus"), "num_nodes": (0,), "max_time": ("soon",),
    "callbacks": ("Abacus", "lightning.pytorch.callbacks.LearningRateMonitor"), "logger": ("Abacus",),
    "plugins": ("abacus",), "profiler": ("abacus",), "min_steps": (-1,), "check_val_every_n_epoch": (0,),
    "overfit_batches": (-1, 0.5, 1.0), "default_root_dir": ("",),
}  # fmt: skip

BY_METHOD = (
    "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision", "val_check_interval", "callbacks",
)  # fmt: skip
"""Of these, those of which the method or its loop decides: tried with a GAN too, whose steps are its own."""

OTHERS = [
    ("DDPM", words.split(" "))
    for words in (
        "--seed_everything -1", "--seed_everything many",
        "--model.lr_scheduler StepLR --model.lr_scheduler.step_size 0",
        "--model.lr_scheduler ReduceLROnPlateau --model.lr_scheduler.monitor x", "--model.lr_scheduler Abacus",
        "--model.optimizer torch.optim.AdamW --model.optimizer.lr -1",
        "--model.optimizer torch.optim.AdamW --model.optimizer.lr .nan",
        "--model.optimizer torch.optim.AdamW --model.optimizer.eps -1", "--model.unet.in_channels 1",
    )
]  # fmt: skip

FILES = [
    ("DDPM", [option, file])
    for option in ("--model.init_from", "--model.guidance.classifier", "--ckpt_path")
    for file in ("{folder}", "{folder}/missing.pt", "{folder}/empty.pt")
] + [("StyleGAN2", ["--model.init_from", file]) for file in ("{folder}", "{folder}/no.pkl", "{folder}/empty.pt")]

COMMANDS = [
    *(("DDPM", [option, "many"]) for option in NUMBERS),
    *(("DDPM", [f"--trainer.{name}={value}"]) for name, values in TRAINER.items() for value in values),
    *(("StyleGAN2", [f"--trainer.{name}={value}"]) for name in BY_METHOD for value in TRAINER[name]),
    *OTHERS,
    *FILES,
]  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of configurations of one step, and of a file that holds nothing."""
    folder = tmp_path_factory.mktemp("good")
    short = {"trainer": {"max_steps": 1}}
    Path(tiny.config_file(folder, short)).rename(folder / "DDPM.yaml")
    gan = {"class_path": "StyleGAN2", "init_args": {"stylegan2": GIVEN[StyleGAN2Config]}}
    command = tiny.COMMAND_LINE | {"model": gan} | {"trainer": tiny.COMMAND_LINE["trainer"] | short["trainer"]}
    data = command["data"]["init_args"] | {"image_size": 32}
    tiny.write_yaml(folder / "StyleGAN2.yaml", command | {"data": {"class_path": "SyntheticFaces", "init_args": data}})
    (folder / "empty.pt").touch()
    return folder


@pytest.mark.parametrize(("method", "words"), COMMANDS, ids=[f"{m} {' '.join(w)}" for m, w in COMMANDS])
def test_a_wrong_word_ends_in_one_line_or_works(
    tenshot: tiny.Run, good: Path, tmp_path: Path, method: str, words: list[str]
):
    given = [word.format(folder=good) for word in words]
    outcome = tenshot(
        "fit", "--config", good / f"{method}.yaml", f"--trainer.default_root_dir={tmp_path / 'run'}", *given
    )
    assert outcome.status in (0, 1, 2)
    assert outcome.status == 0 or outcome.complaint  # one line, without a traceback
    wrong = words[-1] in ("many", "abacus", "Abacus", "soon") or any("{folder}" in word for word in words)
    assert outcome.status or not wrong, "it was taken"
