"""StyleGAN2 of 256 px, batch 16: each player's step and each regulariser, and the same of published code."""

import statistics
from collections import defaultdict
from typing import Any

import torch

from benchmarks.gpu import adm, checkouts, extensions
from benchmarks.gpu.gan import amortised, fitted, size
from benchmarks.gpu.nvlabs import Training
from benchmarks.gpu.record import Context, Values, release
from benchmarks.gpu.timing import REPEATS, longest_kernels, measure
from benchmarks.parts import official_gan
from benchmarks.parts.settings import Setting
from tenshot.models.augmentation import AdaptiveAugment, DiffAugment
from tenshot.models.float32 import float32_products
from tenshot.models.stylegan2 import fir

STAGE = "stylegan2"


def run(context: Context, part: str) -> None:
    """Parts ``ours``, ``nvlabs`` and ``rosinality``."""
    {"ours": run_ours, "nvlabs": run_nvlabs, "rosinality": run_rosinality}[part](context)


# Ours


def run_ours(context: Context) -> None:
    """A row a precision, one a way to filter, the kernels in bf16, and what else recipes train with."""
    extensions.compile_ahead(context)

    def row(name: str, precision: Any, **options: Any) -> None:
        context.run(STAGE, name, lambda: fitted(context, precision, **options).values())
        release()

    row("bf16", "bf16-mixed")
    row("float16", "16-mixed")
    row("float32, TF32", "32-true")
    context.run(STAGE, "kernels, bf16", lambda: {"kernels": kernels(context)})
    for way in (fir.pooled, fir.separable, fir.depthwise):  # the model's own on GPUs, fir.nchw, is in the other rows
        with adm.replaced(fir, "filtered", way):
            row(f"filter {way.__name__}, bf16", "bf16-mixed")
    if not context.dry:
        row("float32, TF32, batch 4", "32-true", batch=4)
        row("float32, TF32, DiffAugment", "32-true", augmentation=DiffAugment())
        row("float32, TF32, ADA", "32-true", augmentation=AdaptiveAugment())
        row("float32", "32-true", tf32=False)


def kernels(context: Context) -> list[Values]:
    """The longest kernels of some iterations."""
    return longest_kernels(lambda: fitted(context, "bf16-mixed", iterations=2), context.device)


# Published code


def run_nvlabs(context: Context) -> None:
    """Their float16, the default, and their float32; with their CUDA extensions or without, as the rows say."""
    path = checkouts.checkout(context, STAGE, "STYLEGAN2_ADA")
    if path is None:
        return
    with checkouts.modules_of(path):
        built = context.run(STAGE, "NVlabs' extensions", lambda: extensions.compiled(context, "STYLEGAN2_ADA")) or {}
        usable = bool(built.get("extensions"))
        context.run(STAGE, "NVlabs' code can be imported", lambda: import_nvlabs(path, usable))
        for name, half, tf32 in (("float16", 4, False), ("float16, TF32", 4, True), ("float32, TF32", 0, True)):
            context.run(STAGE, f"NVlabs {name}", lambda h=half, t=tf32: nvlabs_phases(context, h, t, usable))
            release()


def import_nvlabs(path: Any, usable: bool) -> Values:
    """Their modules, with extensions loaded or, where these are not to be used, never looked for."""
    loaded = {name: usable and extensions.load(path, name) for name in extensions.EXTENSIONS["STYLEGAN2_ADA"]}
    extensions.put_first(path)
    from torch_utils import custom_ops
    from torch_utils.ops import bias_act, upfirdn2d

    custom_ops.verbosity = "none"
    if not all(loaded.values()):
        bias_act._init = upfirdn2d._init = lambda: False  # they would try anew at each call
    return loaded


def nvlabs_phases(context: Context, half: int, tf32: bool, usable: bool) -> Values:
    """Times of the phases of their loop."""
    config, batch = size(context)
    benchmark = torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.benchmark = True  # as their loop does
        with float32_products(tf32):
            training = Training(context.device, batch, config, half)
            found: Values = {"extensions": usable}
            for name, phase in (("d", "Dmain"), ("g", "Gmain"), ("r1", "Dreg"), ("path_length", "Greg")):
                timing = measure(training.phase(phase), context.device, dry=context.dry)
                found |= {f"{name}_ms{key[2:]}": timing.values()[key] for key in ("ms", "ms_10", "ms_90")}
                found["peak_gib"] = max(found.get("peak_gib") or 0.0, timing.peak_gib or 0.0) or None
            rest = measure(training.move_average, context.device, dry=context.dry).ms
    finally:
        torch.backends.cudnn.benchmark = benchmark
    plain = found["d_ms"] + found["g_ms"] + rest
    ms = amortised(plain, found["r1_ms"], found["path_length_ms"])
    return found | {"repeats": REPEATS, "rest_ms": rest, "plain_ms": plain, "ms": ms}


def run_rosinality(context: Context) -> None:
    """Its loop, an iteration at a time: R1 at every second, path length at every third."""
    path = checkouts.checkout(context, STAGE, "STYLEGAN2_PYTORCH")
    if path is None:
        return
    with checkouts.modules_of(path):
        built = context.run(STAGE, "rosinality's extensions", lambda: extensions.compiled(context, "STYLEGAN2_PYTORCH"))
        if context.device.type != "cuda" or (built and built["extensions"]):  # on CUDA it has no other way
            context.run(STAGE, "rosinality float32, TF32", lambda: rosinality(context))
    release()


def rosinality(context: Context) -> Values:
    """Iterations of its loop by what they do."""
    config, batch = size(context)
    setting = Setting(batch, config.image_size, device=context.device, channel_multiplier=config.channel_base // 16384)
    official_gan.load(context.device)
    with float32_products(tf32=True):
        loop, _ = official_gan.started(setting, r1_every=2, path_length_every=3)
        loop.run(1 if context.dry else 6)
        times: dict[tuple[bool, bool], list[float]] = defaultdict(list)
        first = 1 if context.dry else 6
        for index in range(first, first + (6 if context.dry else 30)):
            one = measure(lambda: loop.run(1), context.device, repeats=1, warmup=0)
            times[index % 2 == 0, index % 3 == 0].append(one.ms)
    ms = {kind: statistics.median(found) for kind, found in times.items()}
    plain, r1, path_length = ms[False, False], ms[True, False], ms[False, True]
    found = {"plain_ms": plain, "r1_ms": r1 - plain, "path_length_ms": path_length - plain}
    whole = amortised(plain, r1 - plain, path_length - plain)
    return {**found, "ms": whole, "repeats": len(times[False, False]), "peak_gib": one.peak_gib}
