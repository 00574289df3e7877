"""Tenshot's side: what a ``tenshot fit`` step and a ``tenshot predict`` batch do, without the Trainer around them."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from types import SimpleNamespace
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim import AdamW

from benchmarks.parts.program import Program
from benchmarks.parts.settings import Setting, forward_flops, random_images, randomise
from tenshot.callbacks import EMA, NanGuard, StepSeed
from tenshot.lightning_modules import DDPM, DDPMPA, Pairwise
from tenshot.lightning_modules.sampler import Sampler

D = TypeVar("D", bound=DDPM)
ANCHORS = 3
"""Images of a batch that the published code compares."""


def built(setting: Setting) -> DDPM:
    """The module with random weights on the device."""
    module = DDPM(
        unet=setting.network(),
        optimizer=lambda params: AdamW(params, lr=1e-4, weight_decay=0.0, fused=True),
        sampler=Sampler("ddim", f"ddim{setting.ddim_steps}"),
    )
    return on_device(module, setting)


def on_device(module: D, setting: Setting) -> D:
    """Its network built where it is to run, with random weights."""
    with setting.device:
        module.configure_model()
        randomise(module.unet)
    return module.to(setting.device)


def precision(device: torch.device, half: bool) -> AbstractContextManager[None]:
    """What --trainer.precision bf16-mixed does to a step."""
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def training(setting: Setting, half: bool) -> Program:
    """Callbacks that every run has, the module's own training step and optimiser."""
    module = built(setting)
    return fitting(setting, half, module, "training step", 3 * forward_flops(module.unet, setting))


def adaptation(setting: Setting, half: bool, anchors: int | None = ANCHORS) -> Program:
    """The same with DDPM-PA's losses and its frozen source, which sees three images as in the published code."""
    module = DDPMPA(
        unet=setting.network(),
        source="unused",
        optimizer=lambda params: AdamW(params, lr=1e-4, weight_decay=0.0, fused=True),
        pairwise=Pairwise(4.0, 4.0, 0.05, "source||adapted", "mean", anchors=anchors),
    )
    on_device(module, setting)
    source = deepcopy(module.unet).requires_grad_(False)
    if half:
        source.round_for_autocast(torch.bfloat16)
    module.source.network = source.eval()
    forward = forward_flops(module.unet, setting)
    return fitting(setting, half, module, "DDPM-PA step", (3 + (anchors or setting.batch) / setting.batch) * forward)


def fitting(setting: Setting, half: bool, module: DDPM, what: str, flops: float) -> Program:
    """What ``tenshot fit`` does in a step."""
    take, batch = stepping(setting.device, module), {"image": random_images(setting)}
    return Program(setting.work(what), lambda: take(batch, half), flops, parameters(module))


def stepping(device: torch.device, module: DDPM) -> Callable[[dict[str, Tensor], bool], None]:
    """Make the optimiser and callbacks; what is returned takes a step on a batch, under autocast or not."""
    warnings.filterwarnings("ignore", message="You are trying to `self.log")  # there is no trainer to log to
    module.train()
    optimizer = module.configure_optimizers()
    callbacks = [StepSeed(0), NanGuard(), EMA(0.9999)]
    alone = SimpleNamespace(reduce_boolean_decision=lambda decision, all=True: decision)
    trainer = SimpleNamespace(global_step=0, global_rank=0, accumulate_grad_batches=1, world_size=1, strategy=alone)
    for callback in callbacks:
        callback.on_fit_start(trainer, module)

    def step(batch: dict[str, Tensor], half: bool) -> None:
        for callback in callbacks:
            callback.on_train_batch_start(trainer, module, batch, 0)
        with precision(device, half):
            loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trainer.global_step += 1
        for callback in callbacks:
            callback.on_train_batch_end(trainer, module, loss, batch, 0)

    return step


def sampling(setting: Setting, half: bool) -> Program:
    """The module's own ``sample``."""
    module = built(setting).eval()
    flops = setting.ddim_steps * forward_flops(module.unet, setting)
    seeds = torch.arange(setting.batch)

    def step() -> None:
        with precision(setting.device, half):
            module.sample(seeds)

    return Program(setting.work(f"DDIM-{setting.ddim_steps}"), step, flops, parameters(module))


def parameters(module: DDPM) -> int:
    return sum(parameter.numel() for parameter in module.unet.parameters())
