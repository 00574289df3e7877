"""Which kinds of network there are, and how one is found in a file, read and described."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import torch
from torch import Tensor

from tenshot.checkpoints.adapted import ADAPT, ADAPTED_FROM, merged_as_told, with_what_was_trained
from tenshot.checkpoints.dense_prediction import PREDICTOR
from tenshot.checkpoints.diffusion_networks import CLASSIFIER, UNET
from tenshot.checkpoints.glide import CONDITION_ENCODER, GLIDE_UNET, PITI_UNET
from tenshot.checkpoints.kind import Kind, Trained, Weights, plain_fields
from tenshot.checkpoints.runs import checkpoint_file
from tenshot.checkpoints.shipped import shipped_file
from tenshot.checkpoints.stylegan2 import STYLEGAN2
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.models.pretrained import broken_named, read_checkpoint, safetensors_metadata

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "KINDS", "adapted_from", "configurations", "describe", "kind_in", "method_for", "own_words", "read", "states_in",
]  # fmt: skip

C = TypeVar("C", bound="DataclassInstance")

_ALL: tuple[Kind[Any], ...] = (
    UNET, CLASSIFIER, STYLEGAN2, GLIDE_UNET, PITI_UNET, CONDITION_ENCODER, PREDICTOR,
)  # fmt: skip
KINDS: dict[str, Kind[Any]] = {kind.name: kind for kind in _ALL}
"""All there are, by name."""


@overload
def read(
    path: str, kind: Kind[C], weights: Weights = "ema", told: Mapping[str, Any] = {}, source: str | None = None
) -> Trained[C]: ...
@overload
def read(
    path: str, kind: None = None, weights: Weights = "ema", told: Mapping[str, Any] = {}, source: str | None = None
) -> Trained[Any]: ...
def read(
    path: str,
    kind: Kind[Any] | None = None,
    weights: Weights = "ema",
    told: Mapping[str, Any] = {},
    source: str | None = None,
) -> Trained[Any]:
    """Read trained networks, adapted ones with what was added to their weights in these.

    Args:
        path: A checkpoint of ``tenshot fit``, in parts or not, or the folder of its run, the ``.safetensors`` of
            ``tenshot convert``, or a public file.
        kind: Which kind of network it must hold; none: whichever it holds.
        weights: Which weights; a file that has only the others gives those, and says so.
        told: Fields of the architecture that the shapes of a public file do not tell; for any file the kind's settings.
        source: Of a file that holds what an adaptation trained alone: what it adapts, where that has moved.

    Raises:
        InputError: The file cannot be read, holds another kind, or adapts other weights than the source's.
    """
    path = str(checkpoint_file(path))
    content = read_checkpoint(path)
    words = own_words(path, content)
    kind = kind or _kind_of(words, content)
    alone = words is not None and ADAPTED_FROM in words and Path(path).suffix == ".safetensors"
    if source is not None and not alone:
        raise InputError(f"{path}: holds whole networks, not what was trained alone: leave out --adapted_from")
    if words is None:
        return kind.public(path, content, weights, told)
    if alone:
        content = _completed(path, content, words, kind, adapted_from(path, words, source))
    with broken_named(path, content):
        return _ours(path, content, words, kind, weights, told)


def adapted_from(path: str, words: Mapping[str, Any], source: str | None = None) -> Trained[Any]:
    """What the networks of a file of ours were adapted from.

    Args:
        path: The file, for messages.
        words: What it says of itself.
        source: Where that has moved.

    Raises:
        InputError: It is not there, or cannot be read.
    """
    recorded = words[ADAPTED_FROM]
    where = recorded["path"] if source is None else source
    if source is None and shipped_file(where) is None and not Path(where).exists():
        raise InputError(
            f"{path}: adapts {where}, which is not there: tell tenshot convert where it is, with --adapted_from FILE"
        )
    kind = kind_in(where)
    config = next(words[name] for name in KINDS if name in words)
    told = {name: config[name] for name in kind.options if name in config}
    return read(where, kind, recorded["weights"], told)


def _completed(
    path: str, content: Mapping[str, Tensor], words: Mapping[str, Any], kind: Kind[Any], source: Trained[Any]
) -> dict[str, Tensor]:
    """What a file holds that was trained alone, with what it adapts, as ``tenshot convert`` writes a network."""
    with broken_named(path, content):
        states, config = with_what_was_trained(path, content, words, source), kind.config(**words[kind.name])
    whole: dict[str, Tensor] = {}
    for name, state in states.items():
        with torch.device("meta"):
            known = kind.networks[name](config).state_dict().keys()
        begin = "" if len(kind.networks) == 1 else f"{name}."
        whole |= {f"{begin}{key}": value for key, value in state.items() if key in known}  # a GLIDE's text is left out
    return whole


def _ours(
    path: str,
    content: Mapping[str, Any],
    words: Mapping[str, Any],
    kind: Kind[C],
    weights: Weights,
    told: Mapping[str, Any],
) -> Trained[C]:
    """Networks in a checkpoint or a converted file of ours."""
    if kind.name not in words:
        raise InputError(f"{path}: a checkpoint of {words.get('method', 'another program')}, which has no {kind.words}")
    config, ema = kind.config(**words[kind.name]), content.get("ema")
    process = DiffusionConfig(**words["diffusion"]) if words.get("diffusion") else None
    averages: dict[str, Mapping[str, Tensor]] = {}
    states: dict[str, Mapping[str, Tensor]]
    if Path(path).suffix == ".safetensors":
        alone, origin = len(kind.networks) == 1, "converted weights"
        states = {name: content if alone else _under(content, name) for name in kind.networks}
    else:
        states, averages = (merged_as_told(each, words) for each in states_in(content, kind))
        taken = averages if weights == "ema" else {}
        states = {name: taken.get(name, state) for name, state in states.items()}
        origin = f"averaged weights ({ema['updates']} updates)" if ema is not None and taken else "raw weights"
    states = {name: state for name, state in states.items() if state or name not in kind.training_only}
    if "global_step" in content:
        origin += f" of step {content['global_step']}"
    if ADAPT in words:
        origin += f", adapted from {words[ADAPTED_FROM]['path']}"
    kind.refuse_misfit(path, config, states)
    kind.refuse_misfit(path, config, averages)
    config = replace(config, **{name: told[name] for name in kind.settings if name in told})
    return Trained(kind, path, config, states, origin, process, averages, words.get("stage", {}))


def states_in(
    content: Mapping[str, Any], kind: Kind[Any]
) -> tuple[dict[str, Mapping[str, Tensor]], dict[str, Mapping[str, Tensor]]]:
    """The raw weights of a checkpoint's networks, and their averages; adapted ones as they were trained."""
    raw, ema = content["state_dict"], content.get("ema")
    states: dict[str, Mapping[str, Tensor]] = {name: _under(raw, name) for name in kind.networks}
    if ema is None:
        return states, {}
    frozen, averages = ema.get("frozen", {}), {}  # which has no average
    for name in kind.networks:
        if name not in kind.training_only:
            averages[name] = {key: states[name][key] for key in frozen.get(name, ())} | ema["weights"][name]
    return states, averages


def _under(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def kind_in(path: str) -> Kind[Any]:
    """Which kind of network a file or the newest checkpoint of a run holds.

    Raises:
        InputError: The file cannot be read.
    """
    path = str(checkpoint_file(path))
    content = read_checkpoint(path)
    return _kind_of(own_words(path, content), content)


def method_for(path: str) -> str:
    """Name of the method that draws from a file or the newest checkpoint of a run.

    Raises:
        InputError: The file cannot be read, or holds a network that draws nothing.
    """
    path = str(checkpoint_file(path))
    content = read_checkpoint(path)
    words = own_words(path, content)
    kind = _kind_of(words, content)
    if kind.instead is not None:
        raise InputError(f"{path}: a {kind.words}, which draws none: {kind.instead}")
    if kind.special is None:
        return kind.method
    if words is not None and kind.name in words:
        with broken_named(path, content):
            return kind.method_of(kind.config(**words[kind.name]))
    try:
        return kind.public(path, content, "ema", {}).method
    except InputError:  # the file lacks what the options of the method may tell, and the method will say so
        return kind.method


def _kind_of(words: Mapping[str, Any] | None, content: Mapping[str, Any]) -> Kind[Any]:
    """A U-Net where it does not tell: to read it as one says what it is instead."""
    found = (kind for kind in KINDS.values() if (kind.holds(content) if words is None else kind.name in words))
    return next(found, UNET)


def own_words(path: str | Path, content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a file of ours says of itself; none for a foreign one."""
    if Path(path).suffix == ".safetensors":
        header = safetensors_metadata(path)
        return header if KINDS.keys() & header.keys() else None
    if "pytorch-lightning_version" in content:
        words: Mapping[str, Any] | None = content.get("tenshot")
        return words
    return None


def describe(
    kind: Kind[C],
    config: C,
    method: str,
    process: DiffusionConfig | None = None,
    stage: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a file of ours says of itself, in plain numbers and strings."""
    words = {"method": method, kind.name: plain_fields(config)}
    return words | ({"diffusion": asdict(process)} if process else {}) | ({"stage": dict(stage)} if stage else {})


def configurations(words: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of ours says of itself, as options of a method by their names: ``unet``, ``diffusion``."""
    return {name: dict(words[name]) for name in (*KINDS, "diffusion") if name in words} | dict(words.get("stage", {}))
