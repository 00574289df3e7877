"""Public GLIDE and PITI checkpoints as our networks.

A checkpoint is a plain state dict, and GLIDE's and PITI's files have the same names (``base.pt``): what one is follows
from its keys and shapes alone. Public networks have 64 channels a head, and their images as many pixels as the official
code gives to that number of levels: 64 for four of them, 256 for six.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from tenshot.errors import InputError, did_you_mean
from tenshot.models.glide import ConditionConfig, ConditionEncoder, GlideConfig, GlideUNet, PITIConfig
from tenshot.models.pretrained.adm import Source, infer, name_of, translate
from tenshot.models.pretrained.filling import broken_named, fill, list_keys, refuse_misfit
from tenshot.models.pretrained.glide_names import rename_encoder
from tenshot.models.pretrained.reading import read_checkpoint
from tenshot.models.pretrained.wrapped import part_of_glide, seems, unwrapped

__all__ = [
    "GlideFile",
    "Role",
    "glide_in",
    "load_condition_encoder",
    "load_glide",
    "load_piti",
    "read_glide",
    "role_of",
]

Role = Literal["base", "upsample", "base-inpaint", "upsample-inpaint"]
"""What a network does, by the names of the public files."""
Part = Literal["glide", "piti", "encoder"]

_UNET = ("time_embed.", "input_blocks.", "middle_block.", "output_blocks.", "out.", "transformer_proj.")
_STEMS = {3: (0, False), 6: (3, False), 7: (0, True), 10: (3, True)}
"""Channels that the first convolution sees: those of the low-resolution image, and whether the network inpaints."""
_HEAD, _DROPOUT = 64, 0.1


@dataclass(frozen=True)
class GlideFile:
    """A public checkpoint, translated.

    Args:
        part: Which of the three kinds of file it is.
        config: The architecture.
        decoder: Weights of the U-Net, under our names; none of an encoder alone.
        encoder: Weights of what makes the context.
    """

    part: Part
    config: GlideConfig | PITIConfig | ConditionConfig
    decoder: Mapping[str, Tensor]
    encoder: Mapping[str, Tensor]

    @property
    def state(self) -> dict[str, Tensor]:
        """The weights of a :class:`GlideUNet`, or of a :class:`ConditionEncoder`."""
        if self.part == "encoder":
            return dict(self.encoder)
        return {**self.decoder, **{f"context_encoder.{name}": value for name, value in self.encoder.items()}}


def role_of(config: GlideConfig | PITIConfig) -> Role:
    """What a network of that architecture does."""
    inpaint = isinstance(config, GlideConfig) and config.inpaint
    if config.low_res_channels:
        return "upsample-inpaint" if inpaint else "upsample"
    return "base-inpaint" if inpaint else "base"


def glide_in(content: Mapping[str, Any], part: Part) -> Mapping[str, Any] | None:
    """The state dict of that kind, out of the wrappings of a file's content; none in others."""
    return unwrapped(content, lambda state: part_of_glide(state) == part)


def read_glide(source: Source, part: Part | None = None, name: str | None = None, **overrides: Any) -> GlideFile:
    """Read a public checkpoint and find out what it is.

    Args:
        source: Path of the file, or its state dict.
        part: The kind that it must be of; none: whichever.
        name: The file that a state dict in memory came from, for messages.
        **overrides: Fields of :class:`GlideConfig`, :class:`PITIConfig` or :class:`ConditionConfig`.

    Raises:
        InputError: It is something else, with what it seems to be; keys are unknown or missing; or the shapes tell
            otherwise than the overrides.
    """
    where = name or name_of(source)
    content = source if isinstance(source, Mapping) else read_checkpoint(source)
    state = unwrapped(content, lambda state: part_of_glide(state) is not None)
    found = None if state is None else part_of_glide(state)
    if state is None or found is None or part not in (None, found):
        wanted = {"glide": "GLIDE", "piti": "PITI", "encoder": "condition encoder of PITI"}.get(
            part or "", "GLIDE or PITI"
        )
        raise InputError(f"{where}: not a {wanted} network, but {seems(content if state is None else state)}")
    odd = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise InputError(f"{where}: broken: {list_keys('odd', odd)}: take a whole file")
    unet, rest = _halves(state, found, where)
    encoder = rename_encoder(rest, text=found == "glide", where=where)
    with broken_named(where, state):
        decoder = translate(unet, where, {"transformer_proj": "context_embedding"}) if found != "encoder" else {}
        told = _of_encoder(encoder, found) | (_of_unet(unet, where) if found != "encoder" else {})
        kind = {"glide": GlideConfig, "piti": PITIConfig, "encoder": ConditionConfig}[found]
        assumed = _assumed(unet, told, overrides)
        config = kind(**_merged(kind, told, assumed, overrides, where))
    return GlideFile(found, config, decoder, encoder)


def _halves(state: Mapping[str, Tensor], part: Part, where: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Under the names of GLIDE: the weights of the U-Net, and those of what makes its context."""
    if part == "encoder":
        return {}, dict(state)
    if part == "glide":
        unet = {key: value for key, value in state.items() if key.startswith(_UNET)}
        return unet, {key: value for key, value in state.items() if key not in unet}
    unknown = [key for key in state if not key.startswith(("decoder.", "encoder."))]
    if unknown:
        raise InputError(f"{where}: not a PITI network: {list_keys('unknown', unknown)}")
    halves = ({k.removeprefix(p): v for k, v in state.items() if k.startswith(p)} for p in ("decoder.", "encoder."))
    unet, encoder = halves
    return unet, encoder


def _of_unet(unet: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """What the shapes of the U-Net tell."""
    told = infer(unet).fields()
    fed = unet["input_blocks.0.0.weight"].shape[1]
    if fed not in _STEMS:
        raise InputError(
            f"{where}: broken: input_blocks.0.0.weight takes {fed} channels, and public networks 3 (base), 6 "
            "(upsample), 7 (base-inpaint) or 10 (upsample-inpaint): take a whole file"
        )
    low_res, inpaint = _STEMS[fed]
    told |= {"in_channels": 3, "low_res_channels": low_res, "inpaint": inpaint}
    told["context_channels"] = unet["transformer_proj.weight"].shape[1]
    return told


def _of_encoder(encoder: Mapping[str, Tensor], part: Part) -> dict[str, Any]:
    """What the shapes of the other half tell."""
    layers = 1 + max(int(name.split(".")[1]) for name in encoder if name.startswith("blocks."))
    if part == "glide":
        vocabulary, length = len(encoder["token_embedding.weight"]), len(encoder["positional_embedding"])
        return {"text_layers": layers, "text_length": length, "text_vocabulary": vocabulary}
    grid = round((encoder["positional_embedding"].shape[1] - 1) ** 0.5)
    halvings = sum(name.startswith("convs.") and name.endswith(".weight") for name in encoder) - 1
    told = {"channels": encoder["convs.0.weight"].shape[1], "size": grid * 2**halvings, "grid": grid, "layers": layers}
    if part == "encoder":
        return told | {"width": encoder["class_token"].shape[-1]}
    return {f"condition_{name}": value for name, value in told.items()}


def _assumed(unet: Mapping[str, Tensor], told: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes do not tell, as it is in all public files."""
    if not unet:
        return {"heads": max(1, told["width"] // _HEAD)}
    size = overrides.get("image_size") or 2 ** (len(told["channel_mult"]) + 2)
    heads = max(1, told["context_channels"] // _HEAD)
    named = "text_heads" if "text_layers" in told else "condition_heads"
    sides = infer(unet).attention_resolutions(size)
    return {
        "image_size": size, "head_channels": _HEAD, "dropout": _DROPOUT, "attention_resolutions": sides, named: heads,
    }  # fmt: skip


def _merged(
    kind: type[Any], told: dict[str, Any], assumed: dict[str, Any], overrides: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """All fields; what the shapes tell may be said too, but not otherwise."""
    known = {field.name for field in fields(kind)}
    for name, value in overrides.items():
        if name not in known:
            raise InputError(f"{where}: {kind.__name__} has no field {name!r}{did_you_mean(name, known)}")
        if name in told and told[name] != (tuple(value) if isinstance(value, list) else value):
            raise InputError(
                f"{where}: has {name} {told[name]} by its shapes, not {value}: take the file of such a one"
            )
    return {name: value for name, value in (told | assumed | dict(overrides)).items() if name in known}


def load_glide(source: Source, role: Role | None = None, **overrides: Any) -> GlideUNet:
    """The network of a public GLIDE checkpoint, which draws from text.

    Args:
        source: Path of the file, or its state dict.
        role: What it must be; none: whichever.
        **overrides: Fields of :class:`GlideConfig`.

    Raises:
        InputError: As :func:`read_glide`; it is another one than asked for; or the weights do not fit, with the keys.
    """
    return _built(read_glide(source, "glide", **overrides), role, name_of(source))


def load_piti(source: Source, role: Role | None = None, decoder: Source | None = None, **overrides: Any) -> GlideUNet:
    """The network of a public PITI checkpoint, which draws from a condition image.

    Args:
        source: Path of the file, or its state dict.
        role: What it must be; none: whichever.
        decoder: For a file of the first stage, which holds the condition encoder alone: the file with the U-Net that it
            was trained beside, of GLIDE or of PITI.
        **overrides: Fields of :class:`PITIConfig`.

    Raises:
        InputError: As :func:`load_glide`; or decoder is missing, or not needed.
    """
    where = name_of(source)
    if decoder is None:
        content = source if isinstance(source, Mapping) else read_checkpoint(source)
        if glide_in(content, "encoder") is not None:
            raise InputError(
                f"{where}: the condition encoder of PITI's first stage alone: give decoder, the GLIDE that it was "
                "trained beside"
            )
        return _built(read_glide(content, "piti", where, **overrides), role, where)
    prefix = "condition_"
    of_encoder = {name.removeprefix(prefix): value for name, value in overrides.items() if name.startswith(prefix)}
    of_unet = {name: value for name, value in overrides.items() if not name.startswith(prefix)}
    encoder, trained = read_glide(source, "encoder", **of_encoder), read_glide(decoder, **of_unet)
    if trained.part == "encoder":
        raise InputError(f"{name_of(decoder)}: a condition encoder too: give as decoder the file of a GLIDE or a PITI")
    assert isinstance(encoder.config, ConditionConfig)
    assert isinstance(trained.config, GlideConfig | PITIConfig)
    config = PITIConfig.of(trained.config, encoder.config)
    return _built(GlideFile("piti", config, trained.decoder, encoder.encoder), role, where)


def _built(file: GlideFile, role: Role | None, where: str) -> GlideUNet:
    assert isinstance(file.config, GlideConfig | PITIConfig)
    if role not in (None, found := role_of(file.config)):
        raise InputError(f"{where}: the network {found}, where {role} is meant: take the file of that")
    with torch.device("meta"):  # a broken file may describe a network that no memory holds
        refuse_misfit(GlideUNet(file.config), file.state, where)
    return fill(GlideUNet(file.config), file.state, where)


def load_condition_encoder(source: Source, **overrides: Any) -> ConditionEncoder:
    """The condition encoder of a file of PITI's first stage.

    Args:
        source: Path of the file, or its state dict.
        **overrides: Fields of :class:`ConditionConfig`.

    Raises:
        InputError: As :func:`read_glide`; or the weights do not fit, with the keys.
    """
    file = read_glide(source, "encoder", **overrides)
    assert isinstance(file.config, ConditionConfig)
    with torch.device("meta"):
        refuse_misfit(ConditionEncoder(file.config), file.state, name_of(source))
    return fill(ConditionEncoder(file.config), file.state, name_of(source))
