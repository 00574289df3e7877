"""Trained StyleGAN2s in files: our checkpoints, converted ones, and the public ones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from tenshot.checkpoints.initial import Weights, own_words
from tenshot.checkpoints.runs import checkpoint_file
from tenshot.errors import InputError
from tenshot.models import StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator
from tenshot.models.pretrained import broken_named, fill, read_checkpoint, read_stylegan2, refuse_misfit

__all__ = ["InitialGAN", "gan_description", "initial_gan_from", "refuse_other_gan", "start_from"]


@dataclass(frozen=True)
class InitialGAN:
    """A trained StyleGAN2.

    Args:
        path: The file it came from.
        config: Its architecture.
        generator: Its weights.
        discriminator: Its weights; none where the file has only the generator.
        origin: What was read, in words, for the log.
        average: The averaged weights of the generator, where the file has them.
    """

    path: str
    config: StyleGAN2Config
    generator: Mapping[str, Tensor]
    discriminator: Mapping[str, Tensor] | None
    origin: str
    average: Mapping[str, Tensor] | None = None


def initial_gan_from(path: str, weights: Weights, asked: StyleGAN2Config | None) -> InitialGAN:
    """Read a trained StyleGAN2.

    Args:
        path: A checkpoint of ``tenshot fit`` or the folder of its run, the ``.safetensors`` of ``tenshot convert``, or
            a public ``.pt`` or ``.pkl``.
        weights: Which weights of the generator; a file that has only the others gives those, and says so.
        asked: The architecture that it must have; none: whichever it has.

    Raises:
        InputError: The file cannot be read, holds another kind of model, or another architecture than asked for.
    """
    path = str(checkpoint_file(path))
    content = read_checkpoint(path)
    words = own_words(path, content)
    if words is None:
        found = _public(path, content, weights)
    else:
        with broken_named(path, content):
            found = _ours(path, content, words, weights)
    if asked is not None:
        difference = _difference(found.config, asked)
        if difference is not None:
            field, theirs, ours = difference
            raise InputError(
                f"{path}: its stylegan2.{field} is {theirs}, --model.stylegan2.{field} is {ours}: leave out "
                "--model.stylegan2, or take another file"
            )
        found = replace(found, config=asked)
    return found


def start_from(initial: InitialGAN, generator: StyleGAN2Generator, discriminator: StyleGAN2Discriminator) -> None:
    """Give both networks the weights that were read, and say what they are.

    Raises:
        InputError: They do not fit.
    """
    fill(generator, initial.generator, initial.path)
    rank_zero_info(f"{initial.path}: starting from {initial.origin}")
    if initial.average is not None:
        refuse_misfit(generator, initial.average, initial.path)
    if initial.discriminator is not None:
        fill(discriminator, initial.discriminator, initial.path)
    else:
        rank_zero_warn(f"{initial.path}: has no discriminator, which starts anew")


def _difference(theirs: StyleGAN2Config, ours: StyleGAN2Config) -> tuple[str, int, int] | None:
    """The first field in which two architectures differ, and its values; none where all shapes are the same."""
    for field in ("image_size", "latent_dim", "mapping_layers", "mbstd_group_size"):
        if getattr(theirs, field) != getattr(ours, field):
            return field, getattr(theirs, field), getattr(ours, field)
    if all(theirs.width(resolution) == ours.width(resolution) for resolution in ours.resolutions):
        return None
    field = "channel_base" if theirs.channel_base != ours.channel_base else "max_channels"
    return field, getattr(theirs, field), getattr(ours, field)


def _ours(path: str, content: Mapping[str, Any], words: Mapping[str, Any], weights: Weights) -> InitialGAN:
    """A checkpoint or converted file of ours."""
    if "stylegan2" not in words:
        raise InputError(f"{path}: a checkpoint of {words.get('method', 'another program')}, which has no StyleGAN2")
    state, origin = content, "converted weights"
    if Path(path).suffix != ".safetensors":
        state, origin = content["state_dict"], f"raw weights of step {content['global_step']}"
    generator, discriminator = (_under(state, name) for name in ("generator", "discriminator"))
    ema, average = content.get("ema"), None
    if ema is not None:
        average = ema["weights"]["generator"]
        if weights == "ema":
            generator = average
            origin = f"averaged weights ({ema['updates']} updates) of step {content['global_step']}"
    config = StyleGAN2Config(**words["stylegan2"])
    with torch.device("meta"):
        refuse_misfit(StyleGAN2Generator(config), generator, f"{path} (generator)")
        if discriminator:
            refuse_misfit(StyleGAN2Discriminator(config), discriminator, f"{path} (discriminator)")
    return InitialGAN(path, config, generator, discriminator or None, origin, average)


def _under(state: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def _public(path: str, content: Mapping[str, Any], weights: Weights) -> InitialGAN:
    file = read_stylegan2(content, name=path)
    wanted, other = (file.generator, file.average) if weights == "raw" else (file.average, file.generator)
    generator = wanted if wanted is not None else other
    if generator is None:
        raise InputError(f"{path}: holds no generator")
    kind = "averaged" if generator is file.average else "raw"
    origin = f"{file.origin}, {kind} weights"
    return InitialGAN(path, file.config, generator, file.discriminator, origin, file.average)


def gan_description(config: StyleGAN2Config, method: str) -> dict[str, Any]:
    """What a checkpoint of ours says of itself, in plain numbers and strings."""
    return {"method": method, "stylegan2": asdict(config)}


def refuse_other_gan(checkpoint: Mapping[str, Any], where: str, config: StyleGAN2Config) -> None:
    """Compare a checkpoint that is to be resumed or evaluated with what the configuration asks for.

    Raises:
        InputError: It has no such networks, or others. The number of reduced resolutions may differ.
    """
    words = checkpoint.get("tenshot", {})
    if "stylegan2" not in words:
        raise InputError(
            f"{where}: a checkpoint of {words.get('method', 'another program')}, which has no StyleGAN2: choose "
            "another --ckpt_path or --model"
        )
    difference = _difference(StyleGAN2Config(**words["stylegan2"]), config)
    if difference is not None:
        field, theirs, ours = difference
        raise InputError(
            f"{where}: its stylegan2.{field} is {theirs}, the configuration's {ours}: make them equal, or start from "
            "it with --model.init_from"
        )
