"""Public StyleGAN2 checkpoints as our networks: rosinality's ``.pt``, also CDC's and MixDL's, and NVlabs' ADA ``.pkl``.

Everything about the architecture that matters can be read off their keys and shapes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenshot.errors import InputError, did_you_mean
from tenshot.models.pretrained.filling import broken_named, fill, list_keys, refuse_misfit
from tenshot.models.pretrained.nvlabs_pickle import PickledNetwork, networks_in
from tenshot.models.pretrained.reading import read_checkpoint
from tenshot.models.pretrained.stylegan2_names import NVLABS, ROSINALITY, Layout, fir_kernel
from tenshot.models.pretrained.wrapped import seems, unwrapped
from tenshot.models.stylegan2 import StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator

__all__ = ["StyleGAN2File", "holds_stylegan2", "load_stylegan2", "read_stylegan2"]

Source = str | Path | Mapping[str, Any]

_SEED = 0  # of what a file lacks
_LATENTS = 4096  # in an average latent, as in the public code
_PUBLISHED_BASES = (32768, 16384)  # channel multipliers 2 and 1
_PUBLISHED_CHANNELS = 512
_SIGNS = {"input.input", "to_rgb1.conv.weight"}  # of a generator in rosinality's layout


@dataclass(frozen=True)
class StyleGAN2File:
    """A public file, under our names.

    Args:
        path: Where it came from.
        config: The architecture. Where shapes allow several descriptions, the published one.
        generator: Weights of the generator that was trained on; none where the file has only their average.
        average: Average of these weights over training.
        discriminator: Its weights, if the file has them.
        projection: ``weight`` and ``bias`` of MixDL's linear layer on the discriminator's features, if it has them.
        origin: What was read and what was made up for it, in words.
    """

    path: str
    config: StyleGAN2Config
    generator: Mapping[str, Tensor] | None
    average: Mapping[str, Tensor] | None
    discriminator: Mapping[str, Tensor] | None
    projection: Mapping[str, Tensor] | None
    origin: str


def load_stylegan2(source: Source, **overrides: Any) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator | None]:
    """The networks of a public StyleGAN2 checkpoint: the averaged generator if there is one, and the discriminator.

    Args:
        source: See :func:`read_stylegan2`.
        **overrides: Fields of :class:`StyleGAN2Config`; they win.

    Raises:
        InputError: As :func:`read_stylegan2`; or the weights do not fit the overrides, with the keys.
    """
    known = {field.name for field in fields(StyleGAN2Config)}
    for override in overrides.keys() - known:
        raise InputError(f"load_stylegan2: StyleGAN2Config has no field {override!r}{did_you_mean(override, known)}")
    file = read_stylegan2(source)
    config = replace(file.config, **overrides)
    state = file.generator if file.average is None else file.average
    assert state is not None
    generator = fill(StyleGAN2Generator(config), state, file.path)
    if file.discriminator is None:
        return generator, None
    return generator, fill(StyleGAN2Discriminator(config), file.discriminator, file.path)


def read_stylegan2(source: Source, name: str | None = None) -> StyleGAN2File:
    """Read a public StyleGAN2 checkpoint and find out its architecture.

    Noise maps that a file lacks are drawn from a fixed seed; so is an average latent, over 4096 draws.

    Args:
        source: Path of a file of rosinality's, CDC's or MixDL's code or of NVlabs' StyleGAN2-ADA; or the content of
            one of these in memory, or the state dict of a generator.
        name: The file that a content in memory came from, for messages.

    Raises:
        InputError: The file cannot be read; it holds no generator of this kind; or keys are unknown or missing, with
            the keys.
    """
    with torch.device("cpu"):  # a trainer builds networks with its GPU as the default device
        where = name or (str(source) if not isinstance(source, Mapping) else "the state dict")
        content = source if isinstance(source, Mapping) else read_checkpoint(source)
        with broken_named(where, content):
            networks = networks_in(content)
            return _from_nvlabs(where, networks) if networks else _from_rosinality(where, content)


def holds_stylegan2(content: Mapping[str, Any]) -> bool:
    """Whether the content of a file is that of one that :func:`read_stylegan2` reads."""
    return bool(networks_in(content)) or unwrapped(content, _is_generator) is not None


def _is_generator(state: Mapping[str, Any]) -> bool:
    return bool(state.keys() & _SIGNS)


def _with_parts(content: Mapping[str, Any]) -> bool:
    """Whether it is the dictionary that the training programs write, wherever it lies."""
    return any(isinstance(content.get(name), Mapping) for name in ("g", "g_ema"))


def _stripped(state: Mapping[str, Any]) -> dict[str, Any]:
    """Without the prefix of nn.DataParallel."""
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _from_rosinality(path: str, content: Mapping[str, Any]) -> StyleGAN2File:
    content = unwrapped(content, _with_parts) or content
    found = {name: content[name] for name in ("g", "g_ema", "d") if name in content}
    for name, state in found.items():
        if not isinstance(state, Mapping):
            raise InputError(f"{path} ({name}): expected a dictionary of tensors, found a {type(state).__name__}")
    parts = {name: _stripped(state) for name, state in found.items()}
    if not {"g", "g_ema"} & parts.keys():
        alone = unwrapped(content, _is_generator)
        if alone is None:
            found_words = f"found {', '.join(parts)}" if parts else "neither is there"
            raise InputError(
                f"{path}: holds no generator of StyleGAN2, but {seems(content)}: expected g_ema or g, {found_words}"
            )
        parts |= {"g": _stripped(alone)}
    discriminator = parts.get("d")
    projection = None
    if discriminator is not None:
        linear = {key: discriminator.pop(key) for key in list(discriminator) if key.startswith("sim_linear.")}
        projection = {key.removeprefix("sim_linear."): _plain(value) for key, value in linear.items()} or None
    file = _translate(path, parts, ROSINALITY, content.get("latent_avg"))
    return replace(file, projection=projection)


def _from_nvlabs(path: str, networks: Mapping[str, PickledNetwork]) -> StyleGAN2File:
    for name, network in networks.items():
        if network.arguments.get("c_dim", 0):
            raise InputError(f"{path}: its {name} is class-conditional, which StyleGAN2 here is not: take another file")
    ours = {"G": "g", "G_ema": "g_ema", "D": "d"}
    file = _translate(path, {ours[name]: network.state for name, network in networks.items()}, NVLABS, None)
    if "D" not in networks:
        return file
    epilogue = networks["D"].arguments.get("epilogue_kwargs")
    group = epilogue.get("mbstd_group_size", 4) if isinstance(epilogue, dict) else 4
    return replace(file, config=replace(file.config, mbstd_group_size=group or 0))


def _translate(path: str, parts: Mapping[str, dict[str, Any]], layout: Layout, average: Any) -> StyleGAN2File:
    """Parts ``g``, ``g_ema`` and ``d`` in a public layout, and the file's average latent, as a file."""
    first = parts.get("g_ema", parts.get("g"))
    if first is None:
        raise InputError(f"{path}: holds no generator: expected g_ema or g, found {', '.join(parts) or 'neither'}")
    levels = sum(re.fullmatch(layout.to_rgb, key) is not None for key in first)
    depth = sum(re.fullmatch(layout.mapping, key) is not None for key in first)
    if not levels or not depth:
        raise InputError(
            f"{path}: not a generator of {layout.code}: no weights of its mapping network or of its conversions to "
            f"RGB; {list_keys('other', list(first))}"
        )
    names = {"g": layout.generator(levels, depth), "d": layout.discriminator(levels)}
    translated = {
        part: _renamed(state, names["d" if part == "d" else "g"], f"{path} ({part})", layout, part)
        for part, state in parts.items()
    }
    config = _infer(translated["g_ema" if "g_ema" in parts else "g"], levels, depth, path)
    origin = f"weights of {layout.code} ({', '.join(parts)})"
    for part, state in translated.items():
        with torch.device("meta"):
            network = StyleGAN2Discriminator(config) if part == "d" else StyleGAN2Generator(config)
        shapes = {name: value.shape for name, value in network.state_dict().items()}
        for name in state.keys() & shapes.keys():
            state[name] = _with_axes(state[name], shapes[name])
        if isinstance(network, StyleGAN2Generator):
            given = average if part == "g_ema" or "g_ema" not in parts else None
            if isinstance(given, Tensor):
                state["latent_average"] = _with_axes(_plain(given), shapes["latent_average"])
            made = _complete(network, state, f"{path} ({part})")
            origin += "".join(f"; {words} for {part}, from seed {_SEED}" for words in made)
        else:
            refuse_misfit(network, state, f"{path} ({part})")
    return StyleGAN2File(path, config, translated.get("g"), translated.get("g_ema"), translated.get("d"), None, origin)


def _renamed(
    state: Mapping[str, Any], names: Mapping[str, str], where: str, layout: Layout, part: str
) -> dict[str, Tensor]:
    """A state dict under our names, without its FIR kernels, which are checked."""
    odd = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if odd is not None:
        raise InputError(f"{where}: expected tensors, but {odd!r} is a {type(state[odd]).__name__}")
    kernels = {key for key in state if re.fullmatch(layout.kernels, key)}
    optional = {theirs for ours, theirs in names.items() if ours.endswith(".noise") or ours == "latent_average"}
    unknown = sorted(state.keys() - kernels - set(names.values()))
    missing = sorted(set(names.values()) - optional - state.keys())
    if unknown or missing:
        raise InputError(
            f"{where}: not a network of {layout.code}: {list_keys('unknown', unknown)}; {list_keys('missing', missing)}"
        )
    expected = fir_kernel(1.0 if part == "d" else layout.gain)
    for key in sorted(kernels):
        if state[key].shape != expected.shape or not torch.allclose(state[key].float().cpu(), expected, atol=1e-6):
            raise InputError(f"{where}: {key} is another filter than [1, 3, 3, 1], which is all that there is here")
    return {ours: _plain(state[theirs]) for ours, theirs in names.items() if theirs in state}


def _plain(value: Tensor) -> Tensor:
    return value.detach().float().contiguous()


def _with_axes(value: Tensor, shape: torch.Size) -> Tensor:
    """The tensor in this shape, if only axes of length 1 differ; else unchanged."""
    same = [n for n in value.shape if n != 1] == [n for n in shape if n != 1]
    return value.reshape(shape) if same else value


def _infer(state: Mapping[str, Tensor], levels: int, mapping_layers: int, where: str) -> StyleGAN2Config:
    """The architecture of a generator under our names."""
    widths = [state[f"layers.{2 * level}.bias"].numel() for level in range(levels)]
    least = max(width * (4 << level) for level, width in enumerate(widths))
    for base in (*_PUBLISHED_BASES, least):
        for channels in (_PUBLISHED_CHANNELS, max(widths)):
            config = StyleGAN2Config(
                image_size=2 << levels,
                channel_base=base,
                max_channels=channels,
                latent_dim=state["mapper.0.weight"].shape[-1],
                mapping_layers=mapping_layers,
            )
            if [config.width(resolution) for resolution in config.resolutions] == widths:
                return config
    raise InputError(
        f"{where}: its layers are {', '.join(map(str, widths))} channels wide from 4 px on, which no channel_base and "
        "max_channels describe"
    )


def _complete(network: StyleGAN2Generator, state: dict[str, Tensor], where: str) -> list[str]:
    """Add what a generator on the meta device lacks to its weights; say what that was.

    Raises:
        InputError: The rest does not fit.
    """
    made = []
    random = torch.Generator().manual_seed(_SEED)
    missing = [name for name in network.state_dict() if name.endswith(".noise") and name not in state]
    for name in missing:
        state[name] = torch.randn(network.state_dict()[name].shape, generator=random)
    if missing:
        made.append(f"{len(missing)} noise maps")
    if "latent_average" in state:
        refuse_misfit(network, state, where)
        return made
    state["latent_average"] = torch.zeros(network.config.latent_dim)
    refuse_misfit(network, state, where)
    network.load_state_dict(state, assign=True)
    with torch.no_grad():
        latents = torch.randn(_LATENTS, network.config.latent_dim, generator=random)
        state["latent_average"] = network.mapping(latents).mean(0)
    return [*made, f"average of {_LATENTS} latents"]
