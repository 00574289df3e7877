"""GPU memory of ADM's 256 px U-Net in training: what ``docs/memory.md`` computes, measured."""

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu import adm
from benchmarks.gpu.record import Context, Values, release
from benchmarks.memory import COMPUTED, PARTS, SETTINGS, Setting, most
from benchmarks.parts import ours
from benchmarks.parts.settings import random_images
from tenshot.lightning_modules import DDPM
from tenshot.models.float32 import float32_products

STAGE = "memory"
GIB = 2**30


def run(context: Context) -> None:
    """Rows ``state``; ``kept SETTING``; ``SETTING, N images``; ``most SETTING``."""
    with float32_products(tf32=True):
        measurement = Measurement(context, ours.built(adm.setting(context)))
        for setting in SETTINGS:
            context.run(STAGE, f"kept {setting}", lambda setting=setting: measurement.kept(setting))
        context.run(STAGE, "state", measurement.state)
        for setting in SETTINGS:
            run_parts(context, measurement, setting)
        for setting in SETTINGS:
            context.run(STAGE, f"most {setting}", lambda setting=setting: measurement.most(setting))


def run_parts(context: Context, measurement: "Measurement", setting: Setting) -> None:
    """A row for each number of images, from few to the first that do not fit."""
    fits = True
    for count in sorted(PARTS[-2:] if context.dry else PARTS):
        name = f"{setting}, {count} images"
        if not fits:
            context.row(STAGE, name, fits=False, images=count, message="not tried: fewer did not fit")
            continue
        row = context.run(STAGE, name, lambda count=count: measurement.peak(setting, count))
        fits = bool(row and row["fits"])


class Measurement:
    """A network in training whose memory is looked at."""

    def __init__(self, context: Context, module: DDPM) -> None:
        self.context, self.module = context, module
        self.weights = self.allocated()
        self.step = ours.stepping(context.device, module)
        self.cuda = context.device.type == "cuda"

    def allocated(self) -> int:
        """Bytes that tensors hold on the GPU."""
        return torch.cuda.memory_allocated(self.context.device) if self.context.device.type == "cuda" else 0

    def images(self, count: int) -> torch.Tensor:
        """(count, 3, H, W)"""
        return random_images(replace(adm.setting(self.context), batch=count))

    def turn_to(self, setting: Setting) -> None:
        """Recompute blocks or not."""
        unet = self.module.unet
        adm.recompute_blocks(unet, replace(unet.config, checkpoint_blocks=setting.recompute))

    def kept(self, setting: Setting) -> Values:
        """GiB that the forward pass keeps for the backward pass: for each image, and whatever the batch."""
        self.turn_to(setting)
        found = []
        for count in (1, 2):
            batch, before = {"image": self.images(count)}, self.allocated()
            with ours.precision(self.context.device, setting.bf16 and not self.context.dry):
                loss = self.module.training_step(batch, 0)
                found.append(self.allocated() - before)
            del loss
            release()
        one, two = found
        return {"an_image_gib": (two - one) / GIB, "fixed_gib": (2 * one - two) / GIB}

    def state(self) -> Values:
        """GiB of weights, gradients, moments and average after a step."""
        self.turn_to(SETTINGS[0])
        self.step({"image": self.images(1)}, False)
        return {"weights_gib": self.weights / GIB, "state_gib": self.allocated() / GIB}

    def peak(self, setting: Setting, count: int) -> Values:
        """GiB at the peak of a step, state included; or that it did not fit."""
        self.turn_to(setting)
        release()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.context.device)
        try:
            self.step({"image": self.images(count)}, setting.bf16 and not self.context.dry)
        except torch.OutOfMemoryError:
            self.module.zero_grad()
            release()
            return {"fits": False, "images": count}
        if not self.cuda:
            return {"fits": True, "images": count, "peak_gib": None}
        peak, held = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {"fits": True, "images": count, "peak_gib": peak / GIB, "reserved_gib": held / GIB}

    def most(self, setting: Setting) -> Values:
        """Whether as many images fit as are said to."""
        if not Path(COMPUTED).exists():
            return {"message": "benchmarks/memory.py has not computed it"}
        total = torch.cuda.get_device_properties(self.context.device).total_memory if self.cuda else 0
        card = 141 if total > 100e9 else 80
        count = 3 if self.context.dry else most(setting, card)
        return {"card_gb": card, **self.peak(setting, count)}
