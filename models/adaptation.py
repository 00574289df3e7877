"""Adaptation of few parameters: low-rank changes of a network's weights (LoRA), or its norms and biases alone."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tenshot.errors import InputError, check_range

__all__ = ["Adaptation", "LowRank", "merged", "plain_name", "plus_low_rank"]

Layers = Literal["attention", "convolution", "linear"]
ATTENTION = ("qkv", "proj", "context_kv")
"""What the projections of attention are called, whether linear layers or convolutions of one pixel."""
ORIGINAL, ADDED = ".parametrizations.weight.original", ".parametrizations.weight.0."
"""What stands in the state_dict of an adapted network between a layer's name and lora_A and lora_B, and instead of
``.weight``."""
DOWN, UP = f"{ADDED}lora_A", f"{ADDED}lora_B"


@dataclass(frozen=True)
class Adaptation:
    """Which weights of a trained network are trained further, where not all are.

    Args:
        train: ``lora``: a matrix of low rank is added to the weight of each layer, which itself stays (arXiv
            2106.09685); ``norms``: gains and biases, of norms and of all other layers, and nothing else (arXiv
            1904.01774).
        rank: Of the matrices that are added: a layer of C' x C x k x k weights gets rank * (C' + C * k * k) new ones.
            Of smaller layers it is the most that they can have.
        alpha: What is added is multiplied by alpha / rank; none: by 1.
        layers: To which layers something is added: the projections of ``attention``, any other ``convolution``, any
            other ``linear`` layer.
    """

    train: Literal["lora", "norms"] = "lora"
    rank: int = 8
    alpha: float | None = None
    layers: tuple[Layers, ...] = ("attention", "convolution", "linear")

    def __post_init__(self) -> None:
        check_range("adapt.rank", self.rank, 1)
        if self.alpha is not None:
            check_range("adapt.alpha", self.alpha, 0, above=True)
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers or not set(self.layers) <= set(get_args(Layers)):
            raise InputError(f"adapt.layers is {list(self.layers)}: choose some of {', '.join(get_args(Layers))}")

    def __str__(self) -> str:
        """In words."""
        if self.train == "norms":
            return "norms and biases"
        return f"LoRA of rank {self.rank}, times {self.factor:g}, of layers {', '.join(self.layers)}"

    @property
    def factor(self) -> float:
        """By what the low-rank matrices are multiplied."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def apply(self, network: nn.Module, whole: Callable[[str], bool] = lambda name: False) -> None:
        """Freeze a network but for what is adapted. Its output stays what it is, to the last bit.

        Args:
            network: With its weights; before it is compiled, sharded or given to an optimiser.
            whole: Whether a parameter of that name is trained as it is: of a layer that was never trained before.
        """
        for name, weight in network.named_parameters():
            vector = self.train == "norms" and weight.dim() == 1
            weight.requires_grad_(whole(name) or vector)
        if self.train == "lora":
            for name, layer in list(self._adapted(network)):
                if not whole(f"{name}.weight"):
                    scale = cast(float, getattr(layer, "scale", 1.0))
                    low_rank = LowRank(cast(Tensor, layer.weight), self.rank, self.factor, scale)
                    parametrize.register_parametrization(layer, "weight", low_rank, unsafe=True)  # of the same shape

    def _adapted(self, network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """The layers to which something is added, with their names."""
        for name, layer in network.named_modules():
            weight = layer._parameters.get("weight")
            if weight is None or weight.dim() < 2 or isinstance(layer, nn.Embedding):
                continue
            attends = name.rpartition(".")[2] in ATTENTION
            kind = "attention" if attends else "linear" if weight.dim() == 2 else "convolution"
            if kind in self.layers:
                yield name, layer


class LowRank(nn.Module):
    """Adds factor * B A to a weight, where B is zero at first (LoRA, arXiv 2106.09685, section 4.1).

    Of a convolution A makes ``rank`` channels with its kernel, and B mixes these, pixel by pixel.

    Args:
        weight: (C', C) or (C', C, ...) of the layer.
        rank: Of B A, at most; no more than the weight can have.
        factor: Of what is added.
        scale: By what the layer multiplies its weight when it uses it (equalised learning rate): A is then so much
            larger, as the weights themselves are.
    """

    def __init__(self, weight: Tensor, rank: int, factor: float, scale: float = 1.0) -> None:
        super().__init__()
        rows, columns = len(weight), prod(weight.shape[1:])
        rank, bound = min(rank, rows, columns), 1 / (sqrt(columns) * scale)
        # drawn on the CPU, so that it is the same on all devices
        down = torch.empty(rank, *weight.shape[1:], dtype=weight.dtype, device="cpu").uniform_(-bound, bound)
        if down.dim() == 4:  # as plus_low_rank reads it
            down = down.to(memory_format=torch.channels_last)
        self.lora_A = nn.Parameter(down.to(weight.device))
        self.lora_B = nn.Parameter(torch.zeros(rows, rank, dtype=weight.dtype, device=weight.device))
        self.factor = factor

    def forward(self, weight: Tensor) -> Tensor:
        """(C', C, ...) -> (C', C, ...), in the precision of the weight under autocast too."""
        with torch.autocast(weight.device.type, enabled=False):
            return plus_low_rank(weight, self.lora_A, self.lora_B, self.factor)


def plus_low_rank(weight: Tensor, down: Tensor, up: Tensor, factor: float) -> Tensor:
    """weight + factor * up down.

    Args:
        weight: (C', C, ...), whose memory format the result has.
        down: (rank, C, ...).
        up: (C', rank).
        factor: Of what is added.

    Returns:
        (C', C, ...)
    """
    change = up @ down.movedim(1, -1).flatten(1)  # a convolution's in channels_last memory: nothing is copied
    change = change.view(len(weight), *weight.shape[2:], weight.shape[1]).movedim(-1, 1)
    return torch.add(weight, change, alpha=factor)


def plain_name(name: str) -> str | None:
    """What an entry of an adapted network's state_dict is called in a plain one; none for parts of what is added."""
    if name.endswith((DOWN, UP)):
        return None
    return name.removesuffix(ORIGINAL) + ".weight" if name.endswith(ORIGINAL) else name


def merged(state: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """The state_dict of the plain network that draws what an adapted one draws.

    Args:
        state: Of a network to which an ``Adaptation`` was applied.
        factor: Of that.
    """
    plain = {}
    for name, value in state.items():
        layer = name.removesuffix(ORIGINAL)
        if layer != name:
            plain[f"{layer}.weight"] = plus_low_rank(value, state[layer + DOWN], state[layer + UP], factor)
        elif plain_name(name) is not None:
            plain[name] = value
    return plain
