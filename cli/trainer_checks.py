"""What Lightning's Trainer takes and then trips over, refused before anything is built."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule

from tenshot.errors import InputError, check_range

__all__ = ["check_manual", "check_trainer"]


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Refuse numbers that a Trainer cannot work with.

    Args:
        settings: The options of ``--trainer``.

    Raises:
        InputError: Names the option.
    """
    for name in ("log_every_n_steps", "accumulate_grad_batches"):
        if settings.get(name) is not None:
            check_range(f"--trainer.{name}", settings[name], 1)
    if settings.get("gradient_clip_val") is not None:
        check_range("--trainer.gradient_clip_val", settings["gradient_clip_val"], 0)
    if settings.get("max_steps") is not None and settings["max_steps"] < -1:
        raise InputError(f"--trainer.max_steps is {settings['max_steps']}: choose at least 1")
    devices = settings.get("devices")
    counted = isinstance(devices, int) or (isinstance(devices, str) and devices.lstrip("-").isdigit())
    if counted and int(devices) < 1 and settings.get("accelerator") == "cpu":  # type: ignore[arg-type]
        raise InputError(f"--trainer.devices is {devices}: on CPUs choose the number of processes, at least 1")


def check_manual(module: LightningModule, settings: Mapping[str, Any]) -> None:
    """Refuse what a method with optimisers of its own does not do through the Trainer.

    Args:
        module: The method.
        settings: The options of ``--trainer``.

    Raises:
        InputError: Gradients are to be accumulated or clipped by the Trainer.
    """
    if module.automatic_optimization:
        return
    name = type(module).__name__
    accumulated = settings.get("accumulate_grad_batches") or 1
    if accumulated != 1:
        raise InputError(
            f"--trainer.accumulate_grad_batches is {accumulated}, but {name} divides its batches itself: set "
            "--model.micro_batch to the images that fit at a time, and --data.batch_size to the whole batch"
        )
    clip = settings.get("gradient_clip_val")
    if clip:
        raise InputError(
            f"--trainer.gradient_clip_val is {clip}, but the gradients of {name} are not clipped, as published: "
            "leave it out"
        )
