"""What Lightning's Trainer takes and then trips over, refused before anything is built."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, Strategy

from tenshot.errors import InputError, check_range
from tenshot.run import FullySharded

__all__ = ["check_method", "check_seed", "check_strategy", "check_trainer"]

LARGEST_SEED = 2**32 - 1


def check_seed(seed: int | bool) -> None:
    """Refuse a seed that NumPy does not take.

    Raises:
        InputError: It is negative or too large.
    """
    if not isinstance(seed, bool):
        check_range("--seed_everything", seed, 0, LARGEST_SEED)


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Refuse numbers that a Trainer cannot work with.

    Args:
        settings: The options of ``--trainer``.

    Raises:
        InputError: Names the option.
    """
    for name in ("log_every_n_steps", "accumulate_grad_batches", "check_val_every_n_epoch"):
        if settings.get(name) is not None:
            check_range(f"--trainer.{name}", settings[name], 1)
    if settings.get("gradient_clip_val") is not None:
        check_range("--trainer.gradient_clip_val", settings["gradient_clip_val"], 0)
    if isinstance(settings.get("val_check_interval"), int | float):
        check_range("--trainer.val_check_interval", settings["val_check_interval"], 0, above=True)
    overfit = settings.get("overfit_batches") or 0
    if overfit < 0 or isinstance(overfit, float):
        raise InputError(
            f"--trainer.overfit_batches is {overfit}: a training stream has no end of which to take a share, give a "
            "number of micro-batches"
        )
    if settings.get("max_steps") is not None and settings["max_steps"] < -1:
        raise InputError(f"--trainer.max_steps is {settings['max_steps']}: choose at least 1")
    devices = settings.get("devices")
    counted = isinstance(devices, int) or (isinstance(devices, str) and devices.lstrip("-").isdigit())
    if counted and int(devices) < 1 and settings.get("accelerator") == "cpu":  # type: ignore[arg-type]
        raise InputError(f"--trainer.devices is {devices}: on CPUs choose the number of processes, at least 1")


def check_strategy(strategy: Strategy) -> None:
    """Refuse a strategy that shards weights and is not ours.

    Raises:
        InputError: Its checkpoints are not written as a whole.
    """
    if isinstance(strategy, FSDPStrategy | ModelParallelStrategy) and not isinstance(strategy, FullySharded):
        raise InputError(
            f"--trainer.strategy {type(strategy).__name__} writes checkpoints that a kill can tear: take "
            "tenshot.callbacks.FullySharded, as configs/trainer/fsdp.yaml does, or ddp"
        )


def check_method(module: LightningModule, settings: Mapping[str, Any]) -> None:
    """Refuse what a method does not do through the Trainer.

    Args:
        module: The method.
        settings: The options of ``--trainer``.

    Raises:
        InputError: It computes in another precision, or divides its batches itself.
    """
    name, precision = type(module).__name__, str(settings.get("precision"))
    if precision in ("bf16-true", "16-true"):
        raise InputError(
            f"--trainer.precision {precision} rounds the small steps of weights and averages away: take bf16-mixed"
        )
    if module.automatic_optimization:
        if precision == "64-true":
            raise InputError(f"--trainer.precision 64-true: {name} computes its losses in float32: take 32-true")
        return
    accumulated = settings.get("accumulate_grad_batches") or 1
    if accumulated != 1:
        parts = "divides its batches itself: set --model.micro_batch to the images that fit at a time, and "
        parts = parts if hasattr(module, "micro_batch") else "takes each batch as a whole: leave it out, and set "
        raise InputError(
            f"--trainer.accumulate_grad_batches is {accumulated}, but {name} {parts}--data.batch_size to the whole "
            "batch"
        )
    clip = settings.get("gradient_clip_val")
    if clip:
        raise InputError(
            f"--trainer.gradient_clip_val is {clip}, but the gradients of {name} are not clipped, as published: "
            "leave it out"
        )
