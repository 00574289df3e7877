"""How fast the machine is: the two operations that networks spend their time in, at sizes that suit it."""

import torch
from torch.nn import functional as F

from benchmarks.parts.program import Program


def convolution(device: torch.device, dtype: torch.dtype, repeats: int = 16) -> Program:
    """3x3 convolutions of 192 channels in channels_last."""
    n, channels, side = 8, 192, 32
    x = torch.randn(n, channels, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    flops = repeats * 2 * n * side**2 * channels**2 * 9

    @torch.no_grad()
    def step() -> None:
        for _ in range(repeats):
            F.conv2d(x, weight, padding=1)

    return Program(f"convolution {dtype}", step, flops)


def product(device: torch.device, dtype: torch.dtype, repeats: int = 8) -> Program:
    """Square matrix products."""
    side = 2048 if device.type == "cpu" else 8192
    a = torch.randn(side, side, device=device, dtype=dtype)
    b = torch.randn(side, side, device=device, dtype=dtype)
    flops = repeats * 2 * side**3

    def step() -> None:
        for _ in range(repeats):
            a @ b

    return Program(f"matrix product {dtype}", step, flops)
