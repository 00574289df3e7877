"""The kinds of network that are GLIDE and PITI, and how the one becomes the other."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from tenshot.checkpoints.diffusion_networks import same_weights
from tenshot.checkpoints.kind import Kind, Trained, Weights
from tenshot.diffusion import DiffusionConfig
from tenshot.models import UNet
from tenshot.models.blocks import zeroed
from tenshot.models.glide import ConditionConfig, ConditionEncoder, GlideConfig, GlideUNet, PITIConfig
from tenshot.models.pretrained import GlideFile, glide_in, read_glide, role_of

__all__ = ["CONDITION_ENCODER", "GLIDE_UNET", "PITI_UNET", "for_conditions", "with_condition_input", "with_encoder"]

C = TypeVar("C", GlideConfig, PITIConfig)
STEM = "condition_stem.weight"


def _public(kind: Kind[C], path: str, file: GlideFile) -> Trained[C]:
    """A network of a public file, with the process of the public networks."""
    config: Any = file.config
    states = {"unet": file.state}
    kind.refuse_misfit(path, config, states)
    upsamples = config.low_res_channels > 0
    process = DiffusionConfig(schedule="linear" if upsamples else "cosine")
    origin = f"weights of {kind.words}'s {role_of(config)}, by their shapes"
    stage = {"low_res_size": config.image_size // 4} if upsamples else {}
    return Trained(kind, path, config, states, origin, process, stage=stage)


def _public_glide(
    path: str, content: Mapping[str, Any], weights: Weights, told: Mapping[str, Any]
) -> Trained[GlideConfig]:
    return _public(GLIDE_UNET, path, read_glide(content, "glide", path, **told))


def _public_piti(
    path: str, content: Mapping[str, Any], weights: Weights, told: Mapping[str, Any]
) -> Trained[PITIConfig]:
    return _public(PITI_UNET, path, read_glide(content, "piti", path, **told))


def _public_encoder(
    path: str, content: Mapping[str, Any], weights: Weights, told: Mapping[str, Any]
) -> Trained[ConditionConfig]:
    file = read_glide(content, "encoder", path, **told)
    assert isinstance(file.config, ConditionConfig)
    states = {"encoder": file.state}
    CONDITION_ENCODER.refuse_misfit(path, file.config, states)
    return Trained(CONDITION_ENCODER, path, file.config, states, "weights of PITI's first stage, by their shapes")


def _upsampler(config: GlideConfig | PITIConfig) -> str | None:
    return "PITIUpsampler" if config.low_res_channels else None


_TOLD = ("image_size", "head_channels", "dropout")

GLIDE_UNET: Kind[GlideConfig] = Kind(
    name="glide",
    words="GLIDE",
    method="PITI",
    special=_upsampler,
    config=GlideConfig,
    networks={"unet": GlideUNet},
    holds=lambda content: glide_in(content, "glide") is not None,
    public=_public_glide,
    options=_TOLD,
    settings=("dropout",),
    same=same_weights,
    diffuses=True,
    instead="no command takes a text; draw in Python with load_glide, or train PITI from it",
)

PITI_UNET: Kind[PITIConfig] = Kind(
    name="piti",
    words="PITI",
    method="PITI",
    special=_upsampler,
    config=PITIConfig,
    networks={"unet": GlideUNet},
    holds=lambda content: glide_in(content, "piti") is not None,
    public=_public_piti,
    options=_TOLD,
    settings=("dropout",),
    same=same_weights,
    diffuses=True,
)

CONDITION_ENCODER: Kind[ConditionConfig] = Kind(
    name="condition_encoder",
    words="condition encoder of PITI",
    method="PITI",
    config=ConditionConfig,
    networks={"encoder": ConditionEncoder},
    holds=lambda content: glide_in(content, "encoder") is not None,
    public=_public_encoder,
    image_size="size",
    instead="train PITI from it and the GLIDE that it was trained beside",
)


def for_conditions(trained: Trained[Any], condition: ConditionConfig) -> Trained[PITIConfig]:
    """A PITI with the U-Net of a GLIDE, of another PITI, or of any diffusion model, and a fresh encoder of conditions.

    A U-Net that has had no context gets fresh keys and values for one; its time embedding is not changed by it yet.

    Args:
        trained: What it begins with; the encoder of a GLIDE or a PITI is left out.
        condition: The encoder. It and all else that is fresh is filled from the random state of the CPU.

    Raises:
        InputError: Their widths differ, or the GLIDE inpaints.
    """
    unet, weights = trained.config, dict(trained.states["unet"])
    if not unet.context_channels:
        unet = replace(unet, context_channels=condition.width)
        with torch.device("cpu"):
            network = UNet(unet)
            zeroed(cast(nn.Module, network.context_embedding))
        weights = network.state_dict() | weights
    config = PITIConfig.of(unet, condition)
    with torch.device("cpu"):
        fresh = ConditionEncoder(condition).state_dict()
    return _joined(trained, weights, config, fresh, f"{trained.origin}, with a fresh condition encoder")


def with_condition_input(trained: Trained[PITIConfig]) -> Trained[PITIConfig]:
    """The same network, whose first convolution sees the condition image too; by weights of 0 where it did not yet."""
    if trained.config.condition_input:
        return trained
    config = replace(trained.config, condition_input=True)
    stem = torch.zeros(config.widths[0], config.condition_channels, 3, 3, device="cpu")
    fresh = {STEM: stem, "condition_stem.bias": torch.zeros(len(stem), device="cpu")}
    origin = f"{trained.origin}, with a first convolution that sees conditions from now on"
    return replace(trained, config=config, states={"unet": {**trained.states["unet"], **fresh}}, origin=origin)


def with_encoder(trained: Trained[Any], encoder: Trained[ConditionConfig]) -> Trained[PITIConfig]:
    """A PITI with the U-Net of one file, and the encoder of condition images of another.

    Raises:
        InputError: Their widths differ, or the U-Net inpaints.
    """
    config = PITIConfig.of(trained.config, encoder.config)
    origin = f"{trained.origin}, with {encoder.origin} ({encoder.path})"
    return _joined(trained, trained.states["unet"], config, encoder.states["encoder"], origin)


def _joined(
    trained: Trained[Any], unet: Mapping[str, Tensor], config: PITIConfig, encoder: Mapping[str, Tensor], origin: str
) -> Trained[PITIConfig]:
    sees = STEM in unet and unet[STEM].shape[1] == config.condition_channels
    others = ("context_encoder.",) if sees else ("context_encoder.", "condition_stem.")
    config, weights = replace(config, condition_input=sees), {k: v for k, v in unet.items() if not k.startswith(others)}
    states = {"unet": weights | {f"context_encoder.{name}": value for name, value in encoder.items()}}
    return Trained(PITI_UNET, trained.path, config, states, origin, trained.diffusion, stage=trained.stage)
