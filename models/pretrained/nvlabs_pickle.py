"""The networks in a pickle of NVlabs' StyleGAN2-ADA code.

Such a file is a pickled dictionary ``G, D, G_ema, …`` of objects that carry the source of their own classes, which the
official reader executes. :mod:`tenshot.models.pretrained.unpickling` keeps their tensors and plain containers alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tenshot.models.pretrained.unpickling import Persistent

__all__ = ["PickledNetwork", "networks_in"]


@dataclass(frozen=True)
class PickledNetwork:
    """A network out of such a file.

    Args:
        class_name: Its class in the official code.
        arguments: What it was built with, by name.
        state: Parameters and buffers under the names of the official code, on the CPU.
    """

    class_name: str
    arguments: Mapping[str, Any]
    state: dict[str, Tensor]


def networks_in(content: Mapping[str, Any]) -> dict[str, PickledNetwork]:
    """The networks in the content of such a file, by name: ``G``, ``D``, ``G_ema``; none in that of another."""
    return {name: _network(content[name]) for name in ("G", "D", "G_ema") if isinstance(content.get(name), Persistent)}


def _network(kept: Persistent) -> PickledNetwork:
    arguments = kept.state.get("_init_kwargs")
    return PickledNetwork(kept.class_name, arguments if isinstance(arguments, dict) else {}, dict(_tensors(kept, "")))


def _tensors(module: Persistent, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, named as in a state dict."""
    for group in ("_parameters", "_buffers"):
        for name, value in module.state.get(group, {}).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
    for name, child in module.state.get("_modules", {}).items():
        if isinstance(child, Persistent):
            yield from _tensors(child, f"{prefix}{name}.")
