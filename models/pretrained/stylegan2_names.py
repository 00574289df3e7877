"""What StyleGAN2's parameters are called in public files: by rosinality's PyTorch port and by NVlabs' ADA code.

Both store what we store, up to axes of length 1. Each table maps our names to theirs; ``levels`` is the number of
resolutions, 4 px included.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NVLABS", "ROSINALITY", "Layout", "fir_kernel"]

Names = dict[str, str]


@dataclass(frozen=True)
class Layout:
    """One of the two.

    Args:
        code: Whose code writes it.
        generator: (levels, mapping layers) -> names of the generator's parameters and buffers.
        discriminator: levels -> names of the discriminator's parameters.
        to_rgb: Matches the name of one weight a level.
        mapping: Matches the name of one weight a layer of the mapping network.
        kernels: Matches the names of FIR kernels, which are constants.
        gain: Of the generator's kernels; the discriminator's have 1.
    """

    code: str
    generator: Callable[[int, int], Names]
    discriminator: Callable[[int], Names]
    to_rgb: str
    mapping: str
    kernels: str
    gain: float


def fir_kernel(gain: float) -> Tensor:
    """The low-pass filter of every resampling, (4, 4), with this sum."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) * (gain / 64)


def _rosinality_generator(levels: int, mapping_layers: int) -> Names:
    names = {"const": "input.input"}
    for i in range(mapping_layers):
        names |= _with({f"mapper.{i}": f"style.{i + 1}"}, "weight", "bias")
    for i in range(2 * levels - 1):
        ours, theirs = f"layers.{i}", "conv1" if i == 0 else f"convs.{i - 1}"
        names |= {f"{ours}.weight": f"{theirs}.conv.weight", f"{ours}.bias": f"{theirs}.activate.bias"}
        names |= {f"{ours}.noise_strength": f"{theirs}.noise.weight", f"{ours}.noise": f"noises.noise_{i}"}
        names |= _with({f"{ours}.style": f"{theirs}.conv.modulation"}, "weight", "bias")
    for i in range(levels):
        ours, theirs = f"to_rgb.{i}", "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"
        names |= {f"{ours}.weight": f"{theirs}.conv.weight", f"{ours}.bias": f"{theirs}.bias"}
        names |= _with({f"{ours}.style": f"{theirs}.conv.modulation"}, "weight", "bias")
    return names


def _rosinality_discriminator(levels: int) -> Names:
    names = {"from_rgb.weight": "convs.0.0.weight", "from_rgb.bias": "convs.0.1.bias"}
    for i in range(levels - 1):
        ours, theirs = f"blocks.{i}", f"convs.{i + 1}"
        names |= {f"{ours}.conv1.weight": f"{theirs}.conv1.0.weight", f"{ours}.conv1.bias": f"{theirs}.conv1.1.bias"}
        names |= {f"{ours}.conv2.weight": f"{theirs}.conv2.1.weight", f"{ours}.conv2.bias": f"{theirs}.conv2.2.bias"}
        names |= {f"{ours}.skip.weight": f"{theirs}.skip.1.weight"}
    names |= {"final_conv.weight": "final_conv.0.weight", "final_conv.bias": "final_conv.1.bias"}
    return names | _with({"final_linear": "final_linear.0", "output": "final_linear.1"}, "weight", "bias")


def _nvlabs_generator(levels: int, mapping_layers: int) -> Names:
    names = {"const": "synthesis.b4.const", "latent_average": "mapping.w_avg"}
    for i in range(mapping_layers):
        names |= _with({f"mapper.{i}": f"mapping.fc{i}"}, "weight", "bias")
    for i in range(2 * levels - 1):  # conv1 at 4 px, then conv0, which doubles the resolution, and conv1
        ours, theirs = f"layers.{i}", f"synthesis.b{4 << (i + 1) // 2}.conv{(i + 1) % 2}"
        names |= _with({ours: theirs}, "weight", "bias", "noise_strength") | {f"{ours}.noise": f"{theirs}.noise_const"}
        names |= _with({f"{ours}.style": f"{theirs}.affine"}, "weight", "bias")
    for i in range(levels):
        ours, theirs = f"to_rgb.{i}", f"synthesis.b{4 << i}.torgb"
        names |= _with({ours: theirs, f"{ours}.style": f"{theirs}.affine"}, "weight", "bias")
    return names


def _nvlabs_discriminator(levels: int) -> Names:
    side = 2 << levels
    names = _with({"from_rgb": f"b{side}.fromrgb"}, "weight", "bias")
    for i in range(levels - 1):
        ours, theirs = f"blocks.{i}", f"b{side >> i}"
        names |= _with({f"{ours}.conv1": f"{theirs}.conv0", f"{ours}.conv2": f"{theirs}.conv1"}, "weight", "bias")
        names |= {f"{ours}.skip.weight": f"{theirs}.skip.weight"}
    return names | _with({"final_conv": "b4.conv", "final_linear": "b4.fc", "output": "b4.out"}, "weight", "bias")


def _with(modules: Names, *leaves: str) -> Names:
    return {f"{ours}.{leaf}": f"{theirs}.{leaf}" for ours, theirs in modules.items() for leaf in leaves}


ROSINALITY = Layout(
    code="rosinality's stylegan2-pytorch",
    generator=_rosinality_generator,
    discriminator=_rosinality_discriminator,
    to_rgb=r"to_rgb(1|s\.\d+)\.conv\.weight",
    mapping=r"style\.\d+\.weight",
    kernels=r"(.*\.)?kernel",
    gain=4.0,
)
NVLABS = Layout(
    code="NVlabs' stylegan2-ada-pytorch",
    generator=_nvlabs_generator,
    discriminator=_nvlabs_discriminator,
    to_rgb=r"synthesis\.b\d+\.torgb\.weight",
    mapping=r"mapping\.fc\d+\.weight",
    kernels=r"(.*\.)?resample_filter",
    gain=1.0,
)
