"""Tenshot's side: what a ``tenshot fit`` step and a ``tenshot predict`` batch do, without the Trainer around them."""

import warnings
from contextlib import AbstractContextManager
from types import SimpleNamespace

import torch
from program import Program
from settings import Setting, forward_flops, pictures, randomise
from torch.optim import AdamW

from tenshot.callbacks import EMA, NanGuard, StepSeed
from tenshot.lightning_modules import DDPM
from tenshot.lightning_modules.sampler import Sampler


def built(setting: Setting) -> DDPM:
    """The module with random weights on the device."""
    module = DDPM(
        unet=setting.network(),
        optimizer=lambda params: AdamW(params, lr=1e-4, weight_decay=0.0, fused=True),
        sampler=Sampler("ddim", f"ddim{setting.ddim_steps}"),
    )
    module.configure_model()
    randomise(module.unet)
    return module.to(setting.device)


def precision(setting: Setting, half: bool) -> AbstractContextManager[None]:
    """What --trainer.precision bf16-mixed does to a step."""
    return torch.autocast(setting.device.type, torch.bfloat16, enabled=half)


def training(setting: Setting, half: bool) -> Program:
    """Callbacks that every run has, the module's own training step and optimiser."""
    warnings.filterwarnings("ignore", message="You are trying to `self.log")  # there is no trainer to log to
    module = built(setting).train()
    flops = 3 * forward_flops(module.unet, setting)
    optimizer = module.configure_optimizers()
    callbacks = [StepSeed(0), NanGuard(), EMA(0.9999)]
    trainer = SimpleNamespace(global_step=0, global_rank=0, accumulate_grad_batches=1)
    batch = {"image": pictures(setting)}
    for callback in callbacks:
        callback.on_fit_start(trainer, module)

    def step() -> None:
        for callback in callbacks:
            callback.on_train_batch_start(trainer, module, batch, 0)
        with precision(setting, half):
            loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trainer.global_step += 1
        for callback in callbacks:
            callback.on_train_batch_end(trainer, module, loss, batch, 0)

    return Program(setting.work("training step"), step, flops, parameters(module))


def sampling(setting: Setting, half: bool) -> Program:
    """The module's own ``sample``."""
    module = built(setting).eval()
    flops = setting.ddim_steps * forward_flops(module.unet, setting)
    seeds = torch.arange(setting.batch)

    def step() -> None:
        with precision(setting, half):
            module.sample(seeds)

    return Program(setting.work(f"DDIM-{setting.ddim_steps}"), step, flops, parameters(module))


def parameters(module: DDPM) -> int:
    return sum(parameter.numel() for parameter in module.unet.parameters())
