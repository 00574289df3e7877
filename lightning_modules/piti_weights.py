"""What PITI begins with: a diffusion model of any kind, and a condition encoder."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule

from tenshot.checkpoints import (
    CONDITION_ENCODER,
    GLIDE_UNET,
    PITI_UNET,
    UNET,
    Kind,
    Trained,
    Weights,
    for_conditions,
    read,
    with_condition_input,
    with_encoder,
)
from tenshot.checkpoints.registry import kind_in
from tenshot.checkpoints.uses import used_in_training
from tenshot.errors import InputError
from tenshot.models import ConditionConfig, PITIConfig

__all__ = ["as_piti", "read_prior", "read_upsampler"]

ENCODER = "context_encoder."


def read_prior(path: str, weights: Weights, asked: Mapping[str, Any]) -> Trained[Any]:
    """A pretrained network: of GLIDE, of PITI, or a diffusion U-Net.

    Args:
        path: As for :func:`tenshot.checkpoints.read`.
        weights: Which of a checkpoint of ours.
        asked: Fields of the architecture, of which those are told that a public file may not tell.

    Raises:
        InputError: It cannot be read, is something else, or enlarges images.
    """
    kind = kind_in(path)
    if kind is CONDITION_ENCODER:
        raise InputError(
            f"{path}: a condition encoder alone: give it with --model.encoder_from, and with --model.init_from the "
            "diffusion model that it was trained beside"
        )
    if kind not in (UNET, GLIDE_UNET, PITI_UNET):
        raise InputError(f"{path}: a {kind.words}, not a diffusion model: give one with --model.init_from")
    prior = read(path, kind, weights, _told(kind, asked))
    if prior.config.low_res_channels:
        raise InputError(f"{path}: it enlarges images, PITI draws small ones: give a base with --model.init_from")
    return prior


def read_upsampler(path: str, weights: Weights, asked: Mapping[str, Any]) -> Trained[Any]:
    """A network that enlarges images: of GLIDE, of PITI, or a super-resolution stage.

    Args:
        path: As for :func:`tenshot.checkpoints.read`.
        weights: Which of a checkpoint of ours.
        asked: As for :func:`read_prior`.

    Raises:
        InputError: It cannot be read, is something else, enlarges nothing, or is told of noise in what it enlarges.
    """
    kind, remedy = kind_in(path), "give an upsampler with --model.init_from"
    if kind not in (UNET, GLIDE_UNET, PITI_UNET):
        raise InputError(f"{path}: a {kind.words}, which enlarges nothing: {remedy}")
    trained = read(path, kind, weights, _told(kind, asked))
    if not trained.config.low_res_channels:
        raise InputError(f"{path}: a base, which draws small images and enlarges none: {remedy}")
    if trained.config.low_res_timestep:
        raise InputError(f"{path}: is told how much noise is in what it enlarges, PITI's upsampler is not: {remedy}")
    return trained


def as_piti(
    prior: Trained[Any],
    encoder_from: str | None,
    weights: Weights,
    asked: Mapping[str, Any],
    config: PITIConfig | None,
    module: LightningModule,
) -> Trained[PITIConfig]:
    """A PITI with the U-Net of a pretrained network.

    Its condition encoder is that of ``encoder_from`` or, where none is given, its own; a fresh one where it has none,
    or one of images with other channels.

    Args:
        prior: As :func:`read_prior` gives it.
        encoder_from: A file or run with a condition encoder.
        weights: Which of that.
        asked: As for :func:`read_prior`.
        config: The whole, which says how a fresh encoder is built; none: as that of the published model of masks.
        module: The method, in whose run is noted that it depends on that file.

    Raises:
        InputError: A file cannot be read, or the two do not belong together.
    """
    if encoder_from is not None:
        encoder = _read_encoder(encoder_from, weights, asked)
        used_in_training(encoder.path, module)
        made = with_encoder(for_conditions(prior, encoder.config) if prior.kind is UNET else prior, encoder)
    elif prior.kind is PITI_UNET and (config is None or config.condition_channels == prior.config.condition_channels):
        made = prior
    else:
        width = prior.config.context_channels or ConditionConfig.width
        made = for_conditions(prior, config.condition if config else ConditionConfig(width=width))
    sees = (config is not None and config.condition_input) or getattr(prior.config, "condition_input", False)
    return with_condition_input(made) if sees else made


def _told(kind: Kind[Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asked[name] for name in kind.options if name in asked}


def _read_encoder(path: str, weights: Weights, asked: Mapping[str, Any]) -> Trained[ConditionConfig]:
    kind = kind_in(path)
    if kind is CONDITION_ENCODER:
        return read(path, CONDITION_ENCODER, weights)
    if kind is not PITI_UNET:
        raise InputError(
            f"{path}: a {kind.words}, which has no condition encoder: give a PITI with --model.encoder_from"
        )
    whole = read(path, PITI_UNET, weights, _told(kind, asked))
    state = whole.states["unet"]
    encoder = {name.removeprefix(ENCODER): value for name, value in state.items() if name.startswith(ENCODER)}
    return Trained(CONDITION_ENCODER, whole.path, whole.config.condition, {"encoder": encoder}, whole.origin)
