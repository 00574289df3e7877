"""Tiny StyleGAN2s as public files hold them, and what their networks compute, written from the papers' formulas."""

import math
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]

WIDTHS = {4: 8, 8: 8, 16: 6}
DIM, DEPTH = 5, 3
KERNEL = torch.tensor([1.0, 3.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


def generator_state(widths: Mapping[int, int] = WIDTHS, dim: int = DIM, depth: int = DEPTH, seed: int = 0) -> State:
    """A generator with random weights under the names of rosinality's code."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        drawn = torch.empty(shape)
        return drawn if drawn.is_meta else drawn.normal_(generator=random)

    state = {"input.input": draw(1, widths[4], 4, 4)}
    for i in range(1, depth + 1):
        state |= {f"style.{i}.weight": 100 * draw(dim, dim), f"style.{i}.bias": 30 * draw(dim)}

    def modulated(name: str, channels: int, out: int, side: int) -> None:
        state[f"{name}.conv.weight"] = draw(1, out, channels, side, side)
        state[f"{name}.conv.modulation.weight"] = draw(channels, dim)
        state[f"{name}.conv.modulation.bias"] = 1 + draw(channels)

    number = channels = 0
    for level, (resolution, width) in enumerate(sorted(widths.items())):
        for name in ["conv1"] if level == 0 else [f"convs.{2 * level - 2}", f"convs.{2 * level - 1}"]:
            modulated(name, channels or width, width, 3)
            state |= {f"{name}.noise.weight": draw(1), f"{name}.activate.bias": draw(width)}
            state[f"noises.noise_{number}"] = draw(1, 1, resolution, resolution)
            number, channels = number + 1, width
        rgb = "to_rgb1" if level == 0 else f"to_rgbs.{level - 1}"
        modulated(rgb, width, 3, 1)
        state[f"{rgb}.bias"] = draw(1, 3, 1, 1)
        if level:
            state |= {f"convs.{2 * level - 2}.conv.blur.kernel": 4 * KERNEL, f"{rgb}.upsample.kernel": 4 * KERNEL}
    return state


def discriminator_state(widths: Mapping[int, int] = WIDTHS, seed: int = 1) -> State:
    """A discriminator with random weights under the names of rosinality's code."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.empty(shape).normal_(generator=random)

    *sides, last = sorted(widths, reverse=True)
    channels = widths[sides[0]]
    state = {"convs.0.0.weight": draw(channels, 3, 1, 1), "convs.0.1.bias": draw(channels)}
    for i, side in enumerate(sides, 1):
        out = widths[side // 2]
        state |= {
            f"convs.{i}.conv1.0.weight": draw(channels, channels, 3, 3),
            f"convs.{i}.conv1.1.bias": draw(channels),
        }
        state |= {f"convs.{i}.conv2.1.weight": draw(out, channels, 3, 3), f"convs.{i}.conv2.2.bias": draw(out)}
        state |= {f"convs.{i}.skip.1.weight": draw(out, channels, 1, 1)}
        state |= {f"convs.{i}.conv2.0.kernel": KERNEL.clone(), f"convs.{i}.skip.0.kernel": KERNEL.clone()}
        channels = out
    width = widths[last]
    state |= {"final_conv.0.weight": draw(width, width + 1, 3, 3), "final_conv.1.bias": draw(width)}
    state |= {"final_linear.0.weight": draw(width, 16 * width), "final_linear.0.bias": draw(width)}
    return state | {"final_linear.1.weight": draw(1, width), "final_linear.1.bias": draw(1)}


def checkpoint(**changes: Any) -> dict[str, Any]:
    """All that rosinality's training saves."""
    content = {
        "g": generator_state(seed=2), "d": discriminator_state(), "g_ema": generator_state(),
        "g_optim": {"state": {}, "param_groups": []}, "d_optim": {"state": {}, "param_groups": []},
        "args": Namespace(size=16, n_mlp=DEPTH, path="data", ckpt=None), "ada_aug_p": 0.25,
    }  # fmt: skip
    return content | changes


def _active(x: Tensor, bias: Tensor) -> Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    return F.leaky_relu(x + bias.view(shape), 0.2) * math.sqrt(2)


def _filtered(x: Tensor, kernel: Tensor, pad: tuple[int, int]) -> Tensor:
    x = F.pad(x, (*pad, *pad))
    filtered = F.conv2d(x.flatten(0, 1)[:, None], kernel.flip(0, 1)[None, None])
    return filtered.view(*x.shape[:2], *filtered.shape[2:])


def mapped(state: State, z: Tensor) -> Tensor:
    """The mapping network of a state as above. (N, D) -> (N, D)"""
    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(1, 1 + sum(name.startswith("style.") for name in state) // 2):
        w = _active(w @ (state[f"style.{i}.weight"] * 0.01 / math.sqrt(w.shape[1])).T, 0.01 * state[f"style.{i}.bias"])
    return w


def images_from(state: State, w: Tensor) -> Tensor:
    """What a generator of a state as above draws, with its own noise maps, one image at a time. (N, D) -> images"""

    def modulated(name: str, x: Tensor, style: Tensor, rgb: bool) -> Tensor:
        weight = state[f"{name}.conv.weight"][0]
        modulation = state[f"{name}.conv.modulation.weight"]
        scale = modulation @ style / math.sqrt(len(style)) + state[f"{name}.conv.modulation.bias"]
        weight = weight / math.sqrt(weight[0].numel()) * scale[:, None, None]
        if rgb:
            return F.conv2d(x, weight)
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if f"{name}.conv.blur.kernel" not in state:
            return F.conv2d(x, weight, padding=1)
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return _filtered(x, state[f"{name}.conv.blur.kernel"], (1, 1))

    def styled(name: str, number: int, x: Tensor, style: Tensor) -> Tensor:
        x = modulated(name, x, style, rgb=False)
        noise = state[f"{name}.noise.weight"] * state[f"noises.noise_{number}"]
        return _active(x + noise, state[f"{name}.activate.bias"])

    drawn = []
    for style in w:
        x = styled("conv1", 0, state["input.input"], style)
        image = modulated("to_rgb1", x, style, rgb=True) + state["to_rgb1.bias"]
        for level in range(sum(name.endswith("upsample.kernel") for name in state)):
            x = styled(f"convs.{2 * level}", 2 * level + 1, x, style)
            x = styled(f"convs.{2 * level + 1}", 2 * level + 2, x, style)
            wide = torch.zeros(1, 3, *[2 * n for n in image.shape[2:]])
            wide[:, :, ::2, ::2] = image
            rgb = f"to_rgbs.{level}"
            image = _filtered(wide, state[f"{rgb}.upsample.kernel"], (2, 1)) + state[f"{rgb}.bias"]
            image = image + modulated(rgb, x, style, rgb=True)
        drawn.append(image)
    return torch.cat(drawn)


def logits(state: State, images: Tensor) -> Tensor:
    """What a discriminator of a state as above says of one group of at most four images. -> (N,)"""

    def conv(name: str, x: Tensor, bias: str | None, kernel: str | None = None, pad: int = 0) -> Tensor:
        weight = state[name] / math.sqrt(state[name][0].numel())
        if kernel is None:
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        else:
            x = F.conv2d(_filtered(x, state[kernel], (pad, pad)), weight, stride=2)
        return x if bias is None else _active(x, state[bias])

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ (state[f"{name}.weight"] / math.sqrt(x.shape[1])).T

    x = conv("convs.0.0.weight", images, "convs.0.1.bias")
    for i in range(1, 1 + sum(name.endswith("skip.1.weight") for name in state)):
        block = f"convs.{i}"
        inner = conv(f"{block}.conv1.0.weight", x, f"{block}.conv1.1.bias")
        inner = conv(f"{block}.conv2.1.weight", inner, f"{block}.conv2.2.bias", f"{block}.conv2.0.kernel", 2)
        x = (inner + conv(f"{block}.skip.1.weight", x, None, f"{block}.skip.0.kernel", 1)) / math.sqrt(2)
    spread = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
    x = torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], 1)
    x = conv("final_conv.0.weight", x, "final_conv.1.bias").flatten(1)
    x = _active(linear("final_linear.0", x), state["final_linear.0.bias"])
    return (linear("final_linear.1", x) + state["final_linear.1.bias"])[:, 0]
