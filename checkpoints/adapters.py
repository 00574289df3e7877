"""Files that hold what an adaptation of few parameters trained, without what it adapts."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tenshot.checkpoints.adapted import ADAPT, ADAPTED_FROM, weights_sha256
from tenshot.checkpoints.kind import Kind, Trained, Weights
from tenshot.checkpoints.registry import adapted_from, describe, own_words, states_in
from tenshot.checkpoints.runs import checkpoint_file
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.models.adaptation import ADDED, plain_name
from tenshot.models.pretrained import read_checkpoint, sha256

__all__ = ["adapter_of"]


def adapter_of(
    path: str, kind: Kind[Any], weights: Weights, source: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What was trained of a run's networks, for a file of that alone, and what the file says of itself.

    Args:
        path: A checkpoint of ``tenshot fit`` or the folder of its run.
        kind: What networks it has.
        weights: Averaged or raw ones.
        source: What they were adapted from, where that has moved.

    Raises:
        InputError: All weights were trained, or what was adapted is not there or was changed.
    """
    path = str(checkpoint_file(path))
    content = read_checkpoint(path)
    words = own_words(path, content) or {}
    networks = [name for name in kind.networks if name not in kind.training_only]
    if "state_dict" not in content or not set(networks) <= words.get(ADAPT, {}).keys():
        raise InputError(f"{path}: holds no {' and '.join(networks)} trained with --model.adapt: leave out --adapter")
    raw, averages = states_in(content, kind)
    found = averages if weights == "ema" and averages else raw
    kept, told = trained_alone(path, {name: found[name] for name in networks}, words, adapted_from(path, words, source))
    config, process = kind.config(**words[kind.name]), words.get("diffusion")
    process = None if process is None else DiffusionConfig(**process)
    return kept, describe(kind, config, kind.method_of(config), process, words.get("stage")) | told


def trained_alone(
    path: str, states: Mapping[str, Mapping[str, Tensor]], words: Mapping[str, Any], source: Trained[Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What was trained of adapted networks, and what a file of that alone says of itself.

    Args:
        path: Their checkpoint, for messages.
        states: Their weights, not merged, by the names of the networks.
        words: What the checkpoint says of itself.
        source: What they were adapted from.

    Returns:
        All that is not in the source, by network and name, what has low rank as ``unet.….lora_A`` and
        ``unet.….lora_B``; and entries of the header.

    Raises:
        InputError: The source is not the file that they were adapted from, or they were rounded in training.
    """
    recorded, there = words[ADAPTED_FROM], sha256(source.path)
    if recorded["sha256"] != there:
        raise InputError(
            f"{path}: was adapted from {recorded['path']} (sha256 {recorded['sha256'][:12]}…), not from {source.path} "
            f"({there[:12]}…): give that file with --adapted_from"
        )
    kept: dict[str, Tensor] = {}
    for network, state in states.items():
        theirs = source.states[network]
        for name, value in state.items():
            plain = plain_name(name)
            if plain is None:
                kept[f"{network}.{name.replace(ADDED, '.')}"] = value.contiguous()
            elif plain not in theirs or not _equal(theirs[plain], value):
                if plain != name:
                    raise InputError(
                        f"{path}: its {plain} is not that of {source.path}, as after a --trainer.precision that rounds "
                        "weights: convert it without --adapter"
                    )
                kept[f"{network}.{name}"] = value.contiguous()
    of_source = weights_sha256({network: source.states[network] for network in states})
    told = {network: words[ADAPT][network] for network in states}
    return kept, {ADAPT: told, ADAPTED_FROM: {**recorded, "sha256": of_source}}


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether they are the same numbers, the one perhaps of 16 bits."""
    return one.shape == other.shape and torch.equal(one.to(other.dtype), other)
