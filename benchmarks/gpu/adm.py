"""ADM's U-Net of 256 px in training, as the stages measure it."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.record import Context, Values, release
from benchmarks.gpu.timing import REPEATS, WARMUP, measure
from benchmarks.parts.page import adm_256
from benchmarks.parts.program import Program
from benchmarks.parts.settings import Setting
from tenshot.models import UNetConfig

BATCH = 8
TINY = UNetConfig(
    image_size=8, channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(4,), head_channels=32,
    dropout=0.1,
)  # fmt: skip


def setting(context: Context, batch: int = BATCH) -> Setting:
    """The network and a batch; dry, a tiny one and two images."""
    config = TINY if context.dry else adm_256()
    if context.dry:
        return Setting(3, config.image_size, ddim_steps=2, unet=config)
    return Setting(batch, config.image_size, device=context.device, unet=config)


def timed(
    context: Context, program: Program, rate: float | None = None, repeats: int = REPEATS, warmup: int = WARMUP
) -> Values:
    """Values of a row: the time of a step, its operations a second, and their share of a rate in TFLOP/s."""
    timing = measure(program.step, context.device, repeats, warmup, context.dry)
    tflops = program.flops / timing.ms / 1e9
    return {**timing.values(), "work": program.work, "tflops": tflops, **({"share": tflops / rate} if rate else {})}


def largest_that_fits(step: Callable[[int], Values], batches: Sequence[int]) -> Values:
    """A step with the first of some batches that the GPU's memory has room for.

    Raises:
        torch.OutOfMemoryError: There is none.
    """
    for batch in batches[:-1]:
        try:
            return step(batch) | {"batch": batch}
        except torch.OutOfMemoryError as error:
            traceback.clear_frames(error.__traceback__)  # or they hold the memory
        release()
    return step(batches[-1]) | {"batch": batches[-1]}


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Another function of that name in a module."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def recompute_blocks(unet: nn.Module, config: UNetConfig) -> None:
    """Give a network that is built another value of ``checkpoint_blocks``."""
    for part in unet.modules():
        if isinstance(getattr(part, "config", None), UNetConfig):
            part.config = config
