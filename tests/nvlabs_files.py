"""Pickles like those of NVlabs' StyleGAN2-ADA code, made without it, and pickles with code in them."""

import io
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SOURCE = "raise RuntimeError('the embedded source was run')"


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function: Callable[..., Any] | type, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


class EasyDict(dict[str, Any]):
    """Their dictionary."""


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise RuntimeError("the official reader was run")


_MODULES = {"torch_utils.persistence": _reconstruct_persistent_obj, "dnnlib.util": EasyDict}


@contextmanager
def _importable() -> Iterator[None]:
    """Under the names of the official code, which pickle looks up when it writes."""
    added = {}
    for name, member in _MODULES.items():
        module = ModuleType(name)
        setattr(module, member.__name__, member)
        member.__module__ = name
        added |= {name.split(".")[0]: ModuleType(name.split(".")[0]), name: module}
    before = {name: sys.modules.get(name) for name in added}
    sys.modules |= added
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Persistent:
    """Pickled as an object that carries the source of its class."""

    def __init__(self, class_name: str, source: str = SOURCE, **arguments: Any) -> None:
        self.class_name, self.source = class_name, source
        self.state: dict[str, Any] = {
            "_parameters": OrderedDict(), "_buffers": OrderedDict(), "_modules": OrderedDict(), "training": True,
            "_non_persistent_buffers_set": set(), "weight_gain": 1 / np.sqrt(9), "_init_args": (),
            "_init_kwargs": EasyDict(arguments),
        }  # fmt: skip

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": self.class_name}
        return _reconstruct_persistent_obj, (meta | {"state": self.state},)


def network(class_name: str, state: Mapping[str, Tensor], **arguments: Any) -> Persistent:
    """A network with these parameters and buffers."""
    top = Persistent(class_name, **arguments)
    for name, value in state.items():
        *path, leaf = name.split(".")
        module = top
        for part in path:
            module = module.state["_modules"].setdefault(part, Persistent("Part"))
        buffer = leaf in ("w_avg", "noise_const", "resample_filter")
        module.state["_buffers" if buffer else "_parameters"][leaf] = value if buffer else nn.Parameter(value)
        module.state["_parameters"].setdefault("absent", None)
    return top


def dump(content: object, path: Path, protocol: int = 4) -> Path:
    """Pickle this to a file."""
    with _importable():
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def read_unrestricted(path: Path) -> Any:
    """What pickle makes of a file, which may be anything."""
    with _importable():
        return pickle.loads(path.read_bytes())


def storage_bytes(content: object) -> bytes:
    """As a pickled tensor holds its numbers: again a file of ``torch.save``."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


_LAYER = {"conv.weight": "weight", "activate.bias": "bias", "noise.weight": "noise_strength"}


def nvlabs_state(state: Mapping[str, Tensor], latent_average: Tensor) -> dict[str, Tensor]:
    """A generator in rosinality's layout, in NVlabs'; from the table of correspondences."""
    renamed = {"mapping.w_avg": latent_average, "synthesis.b4.resample_filter": state["to_rgbs.0.upsample.kernel"] / 4}
    for name, value in state.items():
        if match := re.fullmatch(r"style\.(\d+)\.(.+)", name):
            renamed[f"mapping.fc{int(match[1]) - 1}.{match[2]}"] = value
        elif name == "input.input":
            renamed["synthesis.b4.const"] = value[0]
        elif match := re.fullmatch(r"noises\.noise_(\d+)", name):
            layer = "b4.conv1" if match[1] == "0" else _layer(int(match[1]) - 1)
            renamed[f"synthesis.{layer}.noise_const"] = value[0, 0]
        elif match := re.fullmatch(r"to_rgb(1|s\.\d+)\.(bias|conv\..+)", name):
            level = 0 if match[1] == "1" else int(match[1][2:]) + 1
            leaf = match[2].removeprefix("conv.").replace("modulation", "affine")
            renamed[f"synthesis.b{4 * 2**level}.torgb.{leaf}"] = value[0] if leaf == "weight" else value.reshape(
                -1 if leaf == "bias" else value.shape
            )  # fmt: skip
        elif match := re.fullmatch(r"conv(1|s\.\d+)\.(.+)", name):
            layer = "b4.conv1" if match[1] == "1" else _layer(int(match[1][2:]))
            if match[2].endswith("kernel"):
                renamed[f"synthesis.{layer}.resample_filter"] = value / 4
                continue
            leaf = _LAYER.get(match[2], match[2].replace("conv.modulation", "affine"))
            value = value[0] if match[2] in ("conv.weight", "noise.weight") else value
            renamed[f"synthesis.{layer}.{leaf}"] = value
    return renamed


_DISCRIMINATOR = {
    "convs.0.0.weight": "b16.fromrgb.weight", "convs.0.1.bias": "b16.fromrgb.bias",
    "convs.1.conv1.0.weight": "b16.conv0.weight", "convs.1.conv1.1.bias": "b16.conv0.bias",
    "convs.1.conv2.1.weight": "b16.conv1.weight", "convs.1.conv2.2.bias": "b16.conv1.bias",
    "convs.1.conv2.0.kernel": "b16.conv1.resample_filter", "convs.1.skip.1.weight": "b16.skip.weight",
    "convs.1.skip.0.kernel": "b16.skip.resample_filter",
    "convs.2.conv1.0.weight": "b8.conv0.weight", "convs.2.conv1.1.bias": "b8.conv0.bias",
    "convs.2.conv2.1.weight": "b8.conv1.weight", "convs.2.conv2.2.bias": "b8.conv1.bias",
    "convs.2.conv2.0.kernel": "b8.conv1.resample_filter", "convs.2.skip.1.weight": "b8.skip.weight",
    "convs.2.skip.0.kernel": "b8.skip.resample_filter",
    "final_conv.0.weight": "b4.conv.weight", "final_conv.1.bias": "b4.conv.bias",
    "final_linear.0.weight": "b4.fc.weight", "final_linear.0.bias": "b4.fc.bias",
    "final_linear.1.weight": "b4.out.weight", "final_linear.1.bias": "b4.out.bias",
}  # fmt: skip


def nvlabs_discriminator(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A discriminator of 16 px in rosinality's layout, in NVlabs'."""
    return {_DISCRIMINATOR[name]: value for name, value in state.items()}


def _layer(number: int) -> str:
    return f"b{8 * 2 ** (number // 2)}.conv{number % 2}"
