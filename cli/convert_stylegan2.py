"""``tenshot convert`` of StyleGAN2s: to safetensors with their configuration, or to the layout of rosinality's code."""

import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from tenshot.checkpoints.initial import Weights
from tenshot.checkpoints.initial_gan import gan_description, initial_gan_from
from tenshot.checkpoints.runs import checkpoint_file
from tenshot.errors import InputError
from tenshot.models import StyleGAN2Discriminator, StyleGAN2Generator
from tenshot.models.pretrained import (
    channel_multiplier,
    holds_stylegan2,
    read_checkpoint,
    refuse_misfit,
    safetensors_metadata,
    save_rosinality,
)

__all__ = ["convert_stylegan2", "is_stylegan2"]


def is_stylegan2(source: str) -> bool:
    """Whether a file, or the newest checkpoint of a run, holds a StyleGAN2, ours or a public one."""
    path = checkpoint_file(source)
    content = read_checkpoint(path)
    words = safetensors_metadata(path) if path.suffix == ".safetensors" else content.get("tenshot", {})
    return "stylegan2" in words or holds_stylegan2(content)


def convert_stylegan2(source: str, output: str, weights: Weights) -> None:
    """Write a StyleGAN2.

    Args:
        source: A checkpoint of tenshot or the folder of its run, a file of tenshot convert, or a public ``.pt`` or
            ``.pkl``.
        output: The file to write: ``.safetensors`` holds one generator, its discriminator if there is one, and the
            architecture, and OUTPUT.yaml beside it starts a run from it; ``.pt`` is the layout of rosinality's code,
            with averaged and raw weights of the generator.
        weights: Which generator a ``.safetensors`` holds; a ``.pt`` holds both.

    Raises:
        InputError: The source cannot be read, or the output is named otherwise.
    """
    target = Path(output)
    if target.suffix == ".safetensors":
        _to_safetensors(source, target, weights)
    elif target.suffix == ".pt":
        _to_rosinality(source, target)
    else:
        raise InputError(f"{output}: name the file to write with the ending .safetensors or .pt")


def _to_safetensors(source: str, target: Path, weights: Weights) -> None:
    initial = initial_gan_from(source, weights, None)
    states = {"generator": initial.generator}
    if initial.discriminator is not None:
        states["discriminator"] = initial.discriminator
    with torch.device("meta"):
        refuse_misfit(StyleGAN2Generator(initial.config), initial.generator, initial.path)
        if initial.discriminator is not None:
            refuse_misfit(StyleGAN2Discriminator(initial.config), initial.discriminator, initial.path)
    about = gan_description(initial.config, "StyleGAN2")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"{part}.{name}": value.contiguous() for part, state in states.items() for name, value in state.items()},
        target,
        metadata={name: json.dumps(value) for name, value in about.items()},
    )
    config = {"model": {"class_path": "StyleGAN2", "init_args": {"init_from": str(target)}}}
    target.with_suffix(".yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    print(f"{target}: {initial.origin}, {' and '.join(states)}")
    print(f"start from it with tenshot fit --config {target.with_suffix('.yaml')} …")


def _to_rosinality(source: str, target: Path) -> None:
    average, raw = (initial_gan_from(source, weights, None) for weights in ("ema", "raw"))
    target.parent.mkdir(parents=True, exist_ok=True)
    save_rosinality(target, average.config, average.generator, raw.generator, average.discriminator)
    without = "" if average.discriminator else ", no d"
    print(f"{target}: g_ema from {average.origin}; g from {raw.origin}{without}")
    if average.config.mbstd_group_size != 4:
        group = average.config.mbstd_group_size or "all"
        print(f"its discriminator compared groups of {group} pictures: set stddev_group there")
    config, multiplier = average.config, channel_multiplier(average.config)
    if multiplier is None:
        print("rosinality's code builds no networks of these widths: change its table of channels to read the file")
    else:
        print(
            f"read it with size {config.image_size}, style_dim {config.latent_dim}, n_mlp {config.mapping_layers} and "
            f"channel_multiplier {multiplier}"
        )
