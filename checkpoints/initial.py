"""Trained networks in files: our checkpoints, converted ones, and the public ones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tenshot.checkpoints.runs import checkpoint_file
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.models import UNet, UNetClassifier, UNetConfig
from tenshot.models.pretrained import (
    broken_named,
    is_classifier,
    load_adm_classifier,
    network_in,
    read_adm,
    read_checkpoint,
    refuse_misfit,
    safetensors_metadata,
)
from tenshot.models.pretrained.adm_zoo import CLASSIFIERS

__all__ = [
    "Initial",
    "Part",
    "Weights",
    "description",
    "initial_from",
    "own_words",
    "part_in",
    "plain",
    "process_for",
    "refuse_other_channels",
    "refuse_other_network",
]

Weights = Literal["ema", "raw"]
Part = Literal["unet", "classifier"]
"""Which network: its name in a method, in its checkpoints and in its configuration."""

_WORDS: dict[Part, str] = {"unet": "diffusion U-Net", "classifier": "classifier of noisy pictures"}


@dataclass(frozen=True)
class Initial:
    """A trained diffusion U-Net, or classifier of noisy pictures.

    Args:
        path: The file it came from.
        unet: Its architecture; a classifier's is that of its encoder, with the number of classes as out_channels.
        diffusion: The process it was trained with; none where the file does not tell.
        state: Its weights.
        origin: What was read, in words, for the log.
    """

    path: str
    unet: UNetConfig
    diffusion: DiffusionConfig | None
    state: Mapping[str, Tensor]
    origin: str


def initial_from(path: str, weights: Weights, overrides: Mapping[str, Any], part: Part = "unet") -> Initial:
    """Read a trained network from one of three kinds of file.

    Args:
        path: A checkpoint of ``tenshot fit``, in parts or not, or the folder of its run, the ``.safetensors`` of
            ``tenshot convert``, or a public ``.pt``.
        weights: Which weights of a checkpoint of ours; one without an average has only raw ones.
        overrides: Fields of UNetConfig for a public file whose shapes do not tell them; for any file its dropout.
        part: Which network.

    Raises:
        InputError: The file cannot be read, or holds another kind of model.
    """
    path = str(checkpoint_file(path))
    content = read_checkpoint(path)
    ours = own_words(path, content)
    if ours is None:
        return (_public_unet if part == "unet" else _public_classifier)(path, content, overrides)
    with broken_named(path, content):
        return _ours(path, content, ours, weights, part, overrides)


def _ours(
    path: str,
    content: Mapping[str, Any],
    ours: Mapping[str, Any],
    weights: Weights,
    part: Part,
    overrides: Mapping[str, Any],
) -> Initial:
    """A network in a checkpoint or a converted file of ours."""
    if part not in ours:
        raise InputError(
            f"{path}: a checkpoint of {ours.get('method', 'another program')}, which has no {_WORDS[part]}"
        )
    process = DiffusionConfig(**ours["diffusion"]) if ours.get("diffusion") else None
    unet = UNetConfig(**ours[part])
    ema = content.get("ema")
    if Path(path).suffix == ".safetensors":
        state, origin = content, "converted weights"
    elif weights == "ema" and ema is not None:
        state, origin = ema["weights"][part], f"averaged weights ({ema['updates']} updates)"
    else:
        prefix = f"{part}."
        state = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
        origin = "raw weights"
    if "global_step" in content:
        origin += f" of step {content['global_step']}"
    with torch.device("meta"):
        refuse_misfit(UNet(unet) if part == "unet" else UNetClassifier(unet), state, path)
    trained_with = {name: overrides[name] for name in ("dropout",) if name in overrides}
    return Initial(path, replace(unet, **trained_with), process, state, origin)


def part_in(path: str) -> Part:
    """Which network a file or the newest checkpoint of a run holds; a U-Net where it does not tell."""
    path = str(checkpoint_file(path))
    content = read_checkpoint(path)
    ours = own_words(path, content)
    if ours is not None:
        return "classifier" if "classifier" in ours else "unet"
    return "classifier" if is_classifier(network_in(content, path)) else "unet"


def process_for(initial: Initial, asked: DiffusionConfig | None) -> DiffusionConfig:
    """The noise process to go on with: the one asked for, or that of the trained network.

    Raises:
        InputError: None is asked for, and the file does not tell its own.
    """
    if asked is None and initial.diffusion is None:
        raise InputError(f"{initial.path}: does not tell its noise process: give --model.diffusion")
    if asked is not None and initial.diffusion not in (None, asked):
        rank_zero_warn(f"{initial.path} was trained with {initial.diffusion}, not {asked}")
    process = asked or initial.diffusion
    assert process is not None
    return process


def refuse_other_channels(config: UNetConfig, process: DiffusionConfig, learns_variance: bool) -> None:
    """Compare a network's output with what its process makes of it.

    Raises:
        InputError: It has not as many channels as mean, and variance where it is learned, take.
    """
    needed = config.in_channels * (2 if learns_variance else 1)
    if config.out_channels != needed:
        raise InputError(
            f"unet.out_channels is {config.out_channels}, but variance {process.variance} of {config.in_channels} "
            f"channels needs {needed}: change --model.unet.out_channels or --model.diffusion.variance"
        )


def own_words(path: str | Path, content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a file of ours says of itself; none for a foreign one."""
    if Path(path).suffix == ".safetensors":
        header = safetensors_metadata(path)
        return header if {"unet", "classifier", "stylegan2"} & header.keys() else None
    if "pytorch-lightning_version" in content:
        words: Mapping[str, Any] | None = content.get("tenshot")
        return words
    return None


def _public_unet(path: str, content: Mapping[str, Any], overrides: Mapping[str, Any]) -> Initial:
    adm = read_adm(content, name=path, **overrides)
    with torch.device("meta"):  # a broken file may describe a network that no memory holds
        refuse_misfit(UNet(adm.config), adm.state, path)
    process = None
    if adm.public is not None:
        process = DiffusionConfig(
            num_steps=adm.public.num_steps,
            schedule=adm.public.schedule,
            variance="learned_range" if adm.config.out_channels == 2 * adm.config.in_channels else "fixed_large",
            rescale_timesteps=adm.public.rescale_timesteps,
        )
    heads = (
        f"{adm.config.head_channels} channels a head" if adm.config.head_channels else f"{adm.config.num_heads} heads"
    )
    name = f"weights of {adm.public.names[0]}, by their shapes" if adm.public else "foreign weights"
    name += f" ({heads}, {adm.config.attention_order} attention order, dropout {adm.config.dropout}"
    told = "dropout" in overrides or (adm.public is not None and Path(path).stem in adm.public.names)
    name += ")" if told else ", assumed: the file cannot tell, --model.dropout sets it)"
    return Initial(path, adm.config, process, adm.state, name)


def _public_classifier(path: str, content: Mapping[str, Any], overrides: Mapping[str, Any]) -> Initial:
    state = network_in(content, path)
    if not is_classifier(state):
        raise InputError(f"{path}: a diffusion U-Net, not a classifier of noisy pictures: give the file of one")
    if (
        "out.3.weight" in state
        and "out.2.weight" not in state
        and "out.0.bias" in state
        and state["out.3.weight"].dim() == 4
    ):
        raise InputError(
            f"{path}: a classifier with the pool adaptive: methods here have those with the pool attention"
        )
    with torch.device("cpu"):  # a trainer builds networks with its GPU as the default device
        network = load_adm_classifier(state, name=path, **overrides)
    config = network.config
    shape = (config.image_size, config.num_res_blocks, tuple(map(float, config.channel_mult)), config.out_channels)
    for known in CLASSIFIERS:
        if shape == (known.image_size, known.num_res_blocks, tuple(map(float, known.channel_mult)), 1000):
            process, name = DiffusionConfig(schedule=known.schedule), f"weights of {known.name}, by their shapes"
            return Initial(path, config, process, network.state_dict(), name)
    return Initial(path, config, None, network.state_dict(), "foreign weights")


def description(unet: UNetConfig, diffusion: DiffusionConfig, method: str, part: Part = "unet") -> dict[str, Any]:
    """What a checkpoint of ours says of itself, in plain numbers and strings."""
    return {"method": method, part: plain(asdict(unet)), "diffusion": asdict(diffusion)}


def refuse_other_network(
    checkpoint: Mapping[str, Any], where: str, unet: UNetConfig, diffusion: DiffusionConfig, part: Part = "unet"
) -> None:
    """Compare a checkpoint that is to be resumed or evaluated with what the configuration asks for.

    Raises:
        InputError: It has no such network, or another one. Dropout and recomputation may differ.
    """
    ours = checkpoint.get("tenshot", {})
    if part not in ours:
        raise InputError(
            f"{where}: a checkpoint of {ours.get('method', 'another program')}, which has no {_WORDS[part]}: "
            "give another --ckpt_path"
        )
    found, asked = UNetConfig(**ours[part]), asdict(unet)
    differ = [
        f"{part}.{name} {value} (here {asked[name]})"
        for name, value in asdict(found).items()
        if value != asked[name] and name not in ("dropout", "checkpoint_blocks")
    ]
    if differ:
        raise InputError(
            f"{where}: a checkpoint of another network, with {', '.join(differ)}: give the configuration of "
            "its run, or start from its weights with --model.init_from"
        )
    if DiffusionConfig(**ours["diffusion"]) != diffusion:
        rank_zero_warn(f"{where} was trained with {DiffusionConfig(**ours['diffusion'])}, not {diffusion}")


def plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a configuration as JSON and YAML give them back, lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
