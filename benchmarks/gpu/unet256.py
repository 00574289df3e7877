"""ADM's U-Net of 256 px, 553 M weights, bf16-mixed, batch 8: a training step, variants of it, and the official code."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu import adm, checkouts, extensions, machine
from benchmarks.gpu.record import Context, Values, release
from benchmarks.gpu.timing import longest_kernels
from benchmarks.parts import official, ours
from benchmarks.parts.program import Program
from tenshot.models import blocks, norm_act_conv
from tenshot.models.float32 import float32_products

STAGE = "unet256"
FEW = 3
"""Images of a step in which the GPU waits for the host, if it ever does."""
aten = torch.ops.aten


def run(context: Context, part: str) -> None:
    """Part ``ours``: the step and its variants; ``official``: openai/guided-diffusion in float16."""
    {"ours": run_ours, "official": run_official}[part](context)


def run_ours(context: Context) -> None:
    """Rows ``matrix rate``, ``eager``, ``kernels``, and one a variant."""
    extensions.compile_ahead(context)
    context.run(STAGE, "card", lambda: machine.versions(context.device))
    found = context.run(STAGE, "matrix rate", lambda: machine.product(context, torch.bfloat16, tf32=False))
    rate = found["tflops"] if found else None
    setting = adm.setting(context)
    with float32_products(tf32=True):
        module = ours.built(setting)
        flops = 3 * ours.forward_flops(module.unet, setting)

        def program() -> Program:
            return ours.fitting(setting, not context.dry, module, "training step", flops)

        in_channels_last(context, program(), module.unet, rate)
        release()
        few = 3 * ours.forward_flops(module.unet, adm.setting(context, FEW))
        context.run(STAGE, "few images", lambda: of_few(context, module, few, rate))
        with without_kernels():
            context.run(STAGE, "few images, PyTorch's norm", lambda: of_few(context, module, few, rate))
        release()
        with contiguous(module.unet):  # before the optimiser is made: its moments are laid out as the weights
            laid_out = program()
            context.run(STAGE, "contiguous", lambda: adm.timed(context, laid_out, rate))


def of_few(context: Context, module: Any, flops: float, rate: float | None) -> Values:
    """A step of fewer images."""
    program = ours.fitting(adm.setting(context, FEW), not context.dry, module, "training step", flops)
    return adm.timed(context, program, rate) | {"batch": FEW}


def in_channels_last(context: Context, program: Program, unet: nn.Module, rate: float | None) -> None:
    """All rows of one network and optimiser; the first again at the end, for what the clock of the GPU did."""

    def step_in(change: Callable[[], AbstractContextManager[object]]) -> Values:
        with change():
            return adm.timed(context, program, rate)

    said = {"batch": adm.BATCH, "precision": "bf16-mixed", "benchmark": torch.backends.cudnn.benchmark}
    context.run(STAGE, "eager", lambda: step_in(nullcontext) | said)
    context.run(STAGE, "kernels", lambda: {"kernels": longest_kernels(program.step, context.device, 25)})
    for name, change in variants(unet).items():
        context.run(STAGE, name, lambda change=change: step_in(change))
    context.run(STAGE, "eager again", lambda: step_in(nullcontext))


def run_official(context: Context) -> None:
    """Row ``official float16``; the loss scale finds its value in the steps before."""
    path = checkouts.checkout(context, STAGE, "GUIDED_DIFFUSION")
    if path is None:
        return

    def step(batch: int) -> Values:
        official.load("training")
        program = official.training(adm.setting(context, batch), half=not context.dry)
        return adm.timed(context, program, warmup=6)

    with checkouts.modules_of(path):
        context.run(STAGE, "official float16", lambda: adm.largest_that_fits(step, (adm.BATCH, 4, 2)))
    release()


def variants(unet: nn.Module) -> dict[str, Callable[[], AbstractContextManager[object]]]:
    """By name, what changes the network's step inside a block."""
    up2 = blocks.up2
    return {
        "PyTorch's norm": without_kernels,
        "the library's group norm": lambda: without_kernels("normalize", library_norm),
        "F.group_norm in float32": lambda: without_kernels("normalize", float32_norm),
        "up2 in float32": lambda: resampling(unet, up2, lambda x: up2(x.float())),
        "cudnn.benchmark the other way": other_benchmark,
    }


@contextmanager
def without_kernels(name: str = "normalize", value: object = norm_act_conv.normalize) -> Iterator[None]:
    """Group norm without Triton's kernels, and with another function of its module."""
    with adm.replaced(norm_act_conv, "kernels_for", lambda x: None), adm.replaced(norm_act_conv, name, value):
        yield


def library_norm(x: Tensor, factor: Tensor, offset: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """With the library's kernel, which up to PyTorch 2.13 takes NCHW alone: copied there and back."""
    n, c, height, width = x.shape
    given, layout = x.contiguous() if x.is_cuda else x, torch.channels_last
    shared = (factor.to(x.dtype), offset.to(x.dtype)) if factor.dim() == 1 else (None, None)
    hidden, mean, rstd = aten.native_group_norm(given, *shared, n, c, height * width, groups, eps)
    hidden = hidden.contiguous(memory_format=layout)
    if factor.dim() == 2:
        hidden = torch.addcmul(offset.to(x.dtype)[..., None, None], hidden, factor.to(x.dtype)[..., None, None])
    return hidden, mean.float(), rstd.float()


def float32_norm(x: Tensor, factor: Tensor, offset: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """As autocast runs ``F.group_norm``: of a float32 copy; the result back in the dtype of x."""
    hidden = F.group_norm(x.float(), groups, eps=eps)
    variance, mean = torch.var_mean(x.float().reshape(len(x), groups, -1), dim=2, correction=0)
    hidden = torch.addcmul(offset[..., None, None], hidden, factor[..., None, None]).to(x.dtype)
    return hidden.contiguous(memory_format=torch.channels_last), mean, (variance + eps).rsqrt()


@contextmanager
def resampling(unet: nn.Module, before: blocks.Resample, after: blocks.Resample) -> Iterator[None]:
    """The network's blocks with another function that doubles maps."""
    found = [block for block in unet.modules() if getattr(block, "resample", None) is before]
    for block in found:
        block.resample = after
    try:
        yield
    finally:
        for block in found:
            block.resample = before


@contextmanager
def other_benchmark() -> Iterator[None]:
    """cuDNN's search for the fastest algorithm on where it is off, or the other way."""
    with adm.replaced(torch.backends.cudnn, "benchmark", not torch.backends.cudnn.benchmark):
        yield


@contextmanager
def contiguous(unet: nn.Module) -> Iterator[None]:
    """Weights and maps in NCHW. The norm writes what it reads; projections of tokens are copied."""
    to_nchw = [
        unet.encoder.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:])),
        *(
            part.proj.register_forward_pre_hook(lambda _, args: (args[0].contiguous(),))
            for part in unet.modules()
            if isinstance(part, blocks.Attention)
        ),
    ]
    unet.to(memory_format=torch.contiguous_format)
    try:
        yield
    finally:
        for hook in to_nchw:
            hook.remove()
        unet.to(memory_format=torch.channels_last)
