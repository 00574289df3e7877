"""What the machine is and can do: versions, rates of matrix products, convolutions and copies."""

import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from torch.nn import functional as F

from benchmarks.gpu.record import Context, Values
from benchmarks.gpu.timing import measure

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "jsonargparse", "lpips", "torch-fidelity")


def run(context: Context) -> None:
    """Rows ``versions``, ``product …``, ``convolution …``, ``copy``; rates in TFLOP/s and GB/s."""
    context.run("machine", "versions", lambda: versions(context.device))
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("float16", torch.float16, False),
        ("TF32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        context.run("machine", f"product {name}", lambda d=dtype, t=tf32: product(context, d, t))
    context.run("machine", "convolution bf16", lambda: convolution(context, backward=False))
    context.run("machine", "convolution bf16 with backward", lambda: convolution(context, backward=True))
    context.run("machine", "copy", lambda: copy(context))


def versions(device: torch.device) -> Values:
    found: Values = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "card": card.name,
            "memory_gib": card.total_memory / 2**30,
            "multiprocessors": card.multi_processor_count,
            "capability": f"{card.major}.{card.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def product(context: Context, dtype: torch.dtype, tf32: bool) -> Values:
    """Square matrix products of 8192."""
    side = 64 if context.dry else 8192
    a, b = (torch.randn(side, side, device=context.device, dtype=dtype) for _ in range(2))
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32" if tf32 else "ieee"
    try:
        timing = measure(lambda: a @ b, context.device, dry=context.dry)
    finally:
        matmul.fp32_precision = before
    return {**timing.values(), "tflops": 2 * side**3 / timing.ms / 1e9}


def convolution(context: Context, backward: bool) -> Values:
    """3x3 convolutions of 256 channels at 64 px, batch 16, in channels_last."""
    n, channels, side = (1, 8, 8) if context.dry else (16, 256, 64)
    made = {"device": context.device, "dtype": torch.bfloat16, "requires_grad": backward}
    x = torch.randn(n, channels, side, side, **made).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, **made).to(memory_format=torch.channels_last)
    gradient = torch.randn_like(x)

    def step() -> None:
        y = F.conv2d(x, weight, padding=1)
        if backward:
            torch.autograd.grad(y, (x, weight), gradient)

    timing = measure(step, context.device, dry=context.dry)
    flops = (3 if backward else 1) * 2 * n * side**2 * channels**2 * 9
    return {**timing.values(), "tflops": flops / timing.ms / 1e9}


def copy(context: Context) -> Values:
    """A tensor of a GiB to another place: read and written."""
    x = torch.empty(2**16 if context.dry else 2**30, dtype=torch.uint8, device=context.device)
    y = torch.empty_like(x)
    timing = measure(lambda: y.copy_(x), context.device, dry=context.dry)
    return {**timing.values(), "gb_per_s": 2 * x.numel() / timing.ms / 1e6}
