"""Tenshot's StyleGAN2, by the Trainer that ``tenshot fit`` runs it with."""

import logging
import warnings
from collections.abc import Iterator
from functools import partial

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from benchmarks.parts.gan_setting import CYCLE, config, cycle_flops, work
from benchmarks.parts.program import Program
from benchmarks.parts.pulled import Pulled
from benchmarks.parts.settings import Setting, random_images
from tenshot.callbacks import EMA, NanGuard, StepSeed
from tenshot.lightning_modules import StyleGAN2
from tenshot.lightning_modules.adversarial import GANAdam

EMA_DECAY = 0.5 ** (32 / 10_000)  # the published loop's


class Batches:
    """What the Trainer takes for a data loader."""

    def __init__(self, batches: Iterator[dict[str, Tensor]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self.batches


def stylegan2(setting: Setting, half: bool) -> Program:
    """Iterations of the module under a Trainer with the callbacks of every run."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.manual_seed(0)
    adam = partial(GANAdam, fused=True)
    module = StyleGAN2(config(setting), optimizer_g=adam, optimizer_d=adam)
    module.configure_model()
    trainer = Trainer(
        accelerator=setting.device.type, devices=1, precision="bf16-mixed" if half else "32-true", max_steps=-1,
        callbacks=[StepSeed(0), NanGuard(), EMA(EMA_DECAY)], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loop = Pulled(lambda batches: trainer.fit(module, Batches(batches)), lambda: {"image": random_images(setting)})
    params = sum(weight.numel() for weight in module.parameters())
    return Program(work(setting), lambda: loop.run(CYCLE), cycle_flops(setting), params, warmup=1)
