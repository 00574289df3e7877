"""What a kind of network is: one record, which all that reads, writes, describes or compares its files asks."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.models.pretrained import fill, refuse_misfit

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Kind", "Trained", "Weights", "plain_fields"]

C = TypeVar("C", bound="DataclassInstance")
N = TypeVar("N", bound=nn.Module)
Weights = Literal["ema", "raw"]
"""Which weights of a checkpoint: the averaged or the raw ones."""


@dataclass(frozen=True)
class Trained(Generic[C]):
    """Trained networks, as they were read.

    Args:
        kind: What they are.
        path: The file that they came from.
        config: Their architecture.
        states: The weights of each network; none of one for training only that the file lacks.
        origin: What was read, in words, for the log.
        diffusion: The noise process that they were trained with; none where there is none, or the file does not tell.
        averages: The averaged weights of each network that has them in the file, whichever ``states`` are.
        stage: Of a super-resolution stage, options of its method that say what images it enlarges; of PITI, how many
            conditions were hidden from it.
    """

    kind: "Kind[C]"
    path: str
    config: C
    states: Mapping[str, Mapping[str, Tensor]]
    origin: str
    diffusion: DiffusionConfig | None = None
    averages: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    stage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """Name of the method that goes on from it, and draws from it."""
        return self.kind.method_of(self.config)

    def config_for(self, asked: C | None) -> C:
        """The architecture asked for, or their own.

        Raises:
            InputError: Another one is asked for.
        """
        if asked is not None and (differ := self.kind.differences(self.config, asked)):
            raise InputError(
                f"{self.path}: another network, with {differ}: leave out --model.{self.kind.name}, or take another file"
            )
        return asked or self.config

    def fill(self, name: str, network: N) -> N:
        """Give a network the weights of that name.

        Raises:
            InputError: They do not fit, or some are NaN or infinite.
        """
        return fill(network, self.states[name], self.kind.place(self.path, name))


@dataclass(frozen=True)
class Kind(Generic[C]):
    """A kind of network, or of several that belong together.

    Args:
        name: Its entry in checkpoints, and the option that describes it: ``unet`` for ``--model.unet``.
        words: What it is called in messages.
        method: Name of the method that goes on from it, and draws from it.
        config: Its architecture: a dataclass of numbers, strings and tuples.
        networks: What each network is built by, under its name in a method's state_dict.
        holds: Whether the content of a foreign file is of this kind.
        public: Reads the content of a foreign file: its name, the content, which weights, and the options told.
        options: Fields of config that the shapes of a public file may not tell, asked for by ``tenshot convert``.
        settings: Those of them that concern training alone, so that any file may be told others.
        training_only: Networks that are needed for training alone: they have no average, and a file may lack them.
        same: Gives all architectures with the same networks one form.
        image_size: The field of config that is the side of its images in pixels.
        diffuses: Whether it was trained with a noise process, which a file tells too.
        special: Name of another method than ``method``, which goes on from networks of such an architecture.
        instead: What to do with one that draws no images.
        exports: Writers of public layouts by the file's ending: given the file, the averaged and the raw weights,
            they return what to say.
    """

    name: str
    words: str
    method: str
    config: type[C]
    networks: Mapping[str, Callable[[C], nn.Module]]
    holds: Callable[[Mapping[str, Any]], bool]
    public: Callable[[str, Mapping[str, Any], Weights, Mapping[str, Any]], Trained[C]]
    options: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()
    same: Callable[[C], C] = lambda config: config
    image_size: str = "image_size"
    diffuses: bool = False
    special: Callable[[C], str | None] | None = None
    instead: str | None = None
    exports: Mapping[str, Callable[[Path, Trained[C], Trained[C]], list[str]]] = field(default_factory=dict)

    def method_of(self, config: C) -> str:
        """Name of the method that goes on from networks of an architecture, and draws from them."""
        return (self.special and self.special(config)) or self.method

    def place(self, path: str, name: str) -> str:
        """A network of a file, for messages."""
        return path if len(self.networks) == 1 else f"{path} ({name})"

    def refuse_misfit(self, path: str, config: C, states: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Compare weights with the networks of an architecture.

        Raises:
            InputError: They do not fit, with the keys.
        """
        for name, state in states.items():
            with torch.device("meta"):  # a broken file may describe a network that no memory holds
                refuse_misfit(self.networks[name](config), state, self.place(path, name))

    def differences(self, found: C, asked: C) -> str:
        """In which fields the networks of two architectures differ, with both values; empty where in none."""
        its, ours = self.same(found), self.same(asked)
        names = [each.name for each in fields(its) if getattr(its, each.name) != getattr(ours, each.name)]
        both = [(name, getattr(found, name), getattr(asked, name)) for name in names]
        return ", ".join(f"{self.name}.{name} {one} (here {other})" for name, one, other in both if one != other)


def plain_fields(config: "DataclassInstance") -> dict[str, Any]:
    """The fields of an architecture as JSON and YAML give them back, lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
