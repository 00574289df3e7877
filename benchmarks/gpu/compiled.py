"""ADM's U-Net of 256 px under ``--model.compile true``: seconds of compilation, a step's time and memory."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from benchmarks.gpu import adm
from benchmarks.gpu.record import Context, Values, release
from benchmarks.parts import ours
from benchmarks.parts.program import Program
from tenshot.models.float32 import float32_products

STAGE = "compiled"
PATIENCE = 300


def run(context: Context) -> None:
    """Rows ``eager`` and ``compiled``, in bf16; dry, nothing is compiled."""
    setting = adm.setting(context)
    if context.dry:
        setting = replace(setting, unet=replace(adm.TINY, channel_mult=(1,), attention_resolutions=()))
    with float32_products(tf32=True):
        module = ours.built(setting)
        flops = 3 * ours.forward_flops(module.unet, setting)
        program = ours.fitting(setting, not context.dry, module, "training step", flops)
        context.run(STAGE, "eager", lambda: adm.timed(context, program))
        release()
        module.unet.compile()
        with torch.compiler.set_stance("force_eager" if context.dry else "default"):
            context.run(STAGE, "compiled", lambda: compiled(context, program))


def compiled(context: Context, program: Program) -> Values:
    """The first step, with compilation of both passes, then others."""
    start = time.perf_counter()
    with at_most(min(PATIENCE, context.seconds_left() - 15)):
        program.step()
        if context.device.type == "cuda":
            torch.cuda.synchronize(context.device)
    seconds = time.perf_counter() - start
    release()
    return {"compile_seconds": seconds, "batch": adm.BATCH, **adm.timed(context, program)}


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Break off what takes longer.

    Raises:
        TimeoutError: It did.
    """

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not compiled within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
