"""The kind of network that is a StyleGAN2: a generator and, for training, its discriminator."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tenshot.checkpoints.kind import Kind, Trained, Weights
from tenshot.errors import InputError
from tenshot.models import StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator
from tenshot.models.pretrained import channel_multiplier, holds_stylegan2, read_stylegan2, save_rosinality

__all__ = ["STYLEGAN2"]


def _public(
    path: str, content: Mapping[str, Any], weights: Weights, told: Mapping[str, Any]
) -> Trained[StyleGAN2Config]:
    """The weights asked for, or the others where the file has only those."""
    file = read_stylegan2(content, name=path)
    wanted, other = (file.generator, file.average) if weights == "raw" else (file.average, file.generator)
    generator = wanted if wanted is not None else other
    if generator is None:
        raise InputError(f"{path}: holds no generator")
    states = {"generator": generator} | ({} if file.discriminator is None else {"discriminator": file.discriminator})
    origin = f"{file.origin}, {'averaged' if generator is file.average else 'raw'} weights"
    averages = {} if file.average is None else {"generator": file.average}
    return Trained(STYLEGAN2, path, file.config, states, origin, averages=averages)


def _same(config: StyleGAN2Config) -> StyleGAN2Config:
    """The description of these widths by the smallest numbers."""
    base = max(config.width(resolution) * resolution for resolution in config.resolutions)
    return replace(config, channel_base=base, max_channels=config.width(4), reduced_resolutions=0)


def _to_rosinality(target: Path, average: Trained[StyleGAN2Config], raw: Trained[StyleGAN2Config]) -> list[str]:
    config, discriminator = average.config, average.states.get("discriminator")
    save_rosinality(target, config, average.states["generator"], raw.states["generator"], discriminator)
    said = [f"{target}: g_ema from {average.origin}; g from {raw.origin}{'' if discriminator else ', no d'}"]
    if config.mbstd_group_size != 4:
        group = config.mbstd_group_size or "all"
        said.append(f"its discriminator compared groups of {group} images: set stddev_group there")
    multiplier = channel_multiplier(config)
    if multiplier is None:
        unread = "rosinality's code builds no networks of these widths: change its table of channels to read the file"
        return [*said, unread]
    return [
        *said,
        f"read it with size {config.image_size}, style_dim {config.latent_dim}, n_mlp {config.mapping_layers} and "
        f"channel_multiplier {multiplier}",
    ]


STYLEGAN2 = Kind(
    name="stylegan2",
    words="StyleGAN2",
    method="StyleGAN2",
    config=StyleGAN2Config,
    networks={"generator": StyleGAN2Generator, "discriminator": StyleGAN2Discriminator},
    holds=holds_stylegan2,
    public=_public,
    training_only=("discriminator",),
    same=_same,
    exports={".pt": _to_rosinality},
)
