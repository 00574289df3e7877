"""Building optimisers and schedules from what the configuration names."""

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tenshot.errors import InputError, check_range

__all__ = ["build_optimizer", "with_schedule"]


def build_optimizer(option: str, factory: OptimizerCallable, weights: Iterable[nn.Parameter]) -> Optimizer:
    """An optimiser of these weights.

    Args:
        option: The option that names it, such as ``--model.optimizer``.
        factory: From the configuration.
        weights: What it trains.

    Raises:
        InputError: It does not take one of its values, or its learning rate is negative or infinite.
    """
    try:
        optimizer = factory(weights)
    except ValueError as error:  # as PyTorch's optimisers refuse a value
        raise InputError(f"{option}: {error}") from None
    for group in optimizer.param_groups:
        check_range(f"{option}.lr", float(group["lr"]), 0)
        if not group["lr"]:
            rank_zero_warn(f"{option}.lr is 0: nothing is trained until a schedule raises it")
    return optimizer


def with_schedule(optimizer: Optimizer, factory: LRSchedulerCallable | None) -> Any:
    """What ``configure_optimizers`` returns: the optimiser, and its schedule in optimiser steps, if there is one.

    Raises:
        InputError: The schedule does not take one of its values, or does not go by steps.
    """
    if factory is None:
        return optimizer
    try:
        trial = factory(AdamW([nn.Parameter(torch.zeros(()))]))  # some values fail at the first step only
        if isinstance(trial, ReduceLROnPlateau):
            raise InputError(
                "--model.lr_scheduler ReduceLROnPlateau follows a validation loss; schedules here go by optimiser "
                "steps: take another, such as torch.optim.lr_scheduler.CosineAnnealingLR"
            )
        trial.optimizer.step()
        trial.step()
        scheduler = factory(optimizer)
    except (ValueError, ZeroDivisionError) as error:
        raise error if isinstance(error, InputError) else InputError(f"--model.lr_scheduler: {error}") from None
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
