"""Public guided-diffusion and improved-diffusion checkpoints as our networks.

A checkpoint is a plain state dict. Its keys and shapes tell most of the architecture; heads, attention order and image
size they do not, and loading with a wrong guess gives silently wrong images. Those come from the table of public
checkpoints (:mod:`tenshot.models.pretrained.adm_zoo`) or from the caller, never from a guess.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenshot.errors import InputError, did_you_mean
from tenshot.models.pretrained.adm_names import translate
from tenshot.models.pretrained.adm_zoo import ZOO, PublicModel, named_of
from tenshot.models.pretrained.filling import broken_named, fill, refuse_misfit
from tenshot.models.pretrained.reading import read_checkpoint
from tenshot.models.pretrained.wrapped import part_of_glide, seems, unwrapped
from tenshot.models.unet import UNet
from tenshot.models.unet_config import UNetConfig

__all__ = [
    "AdmCheckpoint", "Source", "adm_in", "blocks_of", "infer", "load_adm", "name_of", "network_in", "read_adm",
]  # fmt: skip

log = logging.getLogger(__name__)

Source = str | Path | Mapping[str, Tensor]


def name_of(source: Source) -> str:
    """How messages name a source."""
    return "the state dict" if isinstance(source, Mapping) else str(source)


def adm_in(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The state dict of a network of the public code, out of the wrappings of a file's content; none in others."""
    return unwrapped(
        content,
        lambda state: part_of_glide(state) is None and any(str(key).startswith("input_blocks.") for key in state),
    )


def network_in(source: Source, where: str) -> Mapping[str, Any]:
    """The state dict of a network of the public code, out of its wrappings.

    Raises:
        InputError: The file cannot be read, or holds something else, with what it seems to be.
    """
    content = source if isinstance(source, Mapping) else read_checkpoint(source)
    state = adm_in(content)
    if state is None:
        raise InputError(
            f"{where}: not a guided-diffusion or improved-diffusion network, but {seems(content)}: give the file of one"
        )
    return state


@dataclass(frozen=True)
class Shapes:
    """What keys and shapes tell of an encoder (and decoder)."""

    channels: int
    channel_mult: tuple[float, ...]
    num_res_blocks: int
    attention_levels: tuple[int, ...]
    scale_shift: bool
    resample: str
    num_classes: int | None
    in_channels: int
    low_res: bool
    out_channels: int

    def fields(self) -> dict[str, Any]:
        """As fields of a UNetConfig, but for the attention levels."""
        known = asdict(self)
        del known["attention_levels"], known["low_res"]
        return known | {"low_res_channels": self.in_channels if self.low_res else 0}

    def attention_resolutions(self, image_size: int) -> tuple[int, ...]:
        """Sides of the maps with attention, where images have that side."""
        return tuple(image_size // 2**level for level in self.attention_levels)


def blocks_of(state: Mapping[str, Tensor], part: str) -> dict[int, set[str]]:
    """Number of a public block -> the heads ``slot.layer`` of its parameter names."""
    blocks: dict[int, set[str]] = {}
    for key in state:
        if key.startswith(part + "."):
            _, number, slot, layer, *_ = [*key.split("."), "", ""]
            blocks.setdefault(int(number), set()).add(f"{slot}.{layer}")
    return blocks


def infer(state: Mapping[str, Tensor], num_res_blocks: int | None = None) -> Shapes:
    """Read the architecture off a public state dict, of which a classifier has no decoder to tell its depth."""
    channels = state["time_embed.0.weight"].shape[1]
    encoder, decoder = blocks_of(state, "input_blocks"), blocks_of(state, "output_blocks")
    gaps = sorted(set(range(max(encoder) + 1)) - encoder.keys())
    plain = [n for n, slots in encoder.items() if "0.op" in slots]
    if gaps or plain:  # the level's first downsampling follows its residual blocks
        depth, resample = (gaps or sorted(plain))[0] - 1, "mean" if gaps else "conv"
    else:
        resample = "resblock"
        ups = [n for n, slots in decoder.items() if "1.in_layers" in slots or "2.in_layers" in slots]
        depth = num_res_blocks or (min(ups) if ups else max(encoder))
    starts = range(1, max(encoder) + 1, depth + 1)
    widths = [state[f"input_blocks.{n}.0.out_layers.0.weight"].shape[0] for n in starts]
    mult = tuple(width // channels if width % channels == 0 else width / channels for width in widths)
    fed = state["input_blocks.0.0.weight"].shape[1]
    out = state["out.2.weight"].shape[0] if "out.2.weight" in state else 1  # missing, which is said later
    low_res = fed == 6  # images have one or three channels; six are an image and its low-resolution condition
    embed = state["input_blocks.1.0.emb_layers.1.weight"].shape[0]
    return Shapes(
        channels=channels,
        channel_mult=mult,
        num_res_blocks=depth,
        attention_levels=tuple(level for level, n in enumerate(starts) if "1.qkv" in encoder[n]),
        scale_shift=embed == 2 * widths[0],
        resample=resample,
        num_classes=state["label_emb.weight"].shape[0] if "label_emb.weight" in state else None,
        in_channels=3 if low_res else fed,
        low_res=low_res,
        out_channels=out,
    )


def _recognise(shapes: Shapes, where: str) -> PublicModel | None:
    """The public checkpoint with these shapes."""

    def told(of: PublicModel | Shapes, attention_levels: Iterable[int]) -> tuple[object, ...]:
        return (
            of.channels, tuple(map(float, of.channel_mult)), of.num_res_blocks, tuple(attention_levels), of.scale_shift,
            of.resample, of.num_classes, of.low_res,
        )  # fmt: skip

    def levels(model: PublicModel) -> Iterable[int]:
        sides = [model.image_size // 2**level for level in range(len(model.channel_mult))]
        return (level for level, side in enumerate(sides) if side in model.attention_resolutions)

    wanted = told(shapes, shapes.attention_levels)
    matches = [model for model in ZOO if told(model, levels(model)) == wanted]
    return named_of(matches, where)


@dataclass(frozen=True)
class AdmCheckpoint:
    """A public checkpoint, translated.

    Args:
        config: The architecture.
        state: Weights under our names.
        public: The row of the table it was recognised as, with its noise schedule; none for anybody else's weights.
    """

    config: UNetConfig
    state: dict[str, Tensor]
    public: PublicModel | None


def read_adm(source: Source, name: str | None = None, **overrides: Any) -> AdmCheckpoint:
    """Read a public checkpoint and find out its architecture.

    Args:
        source: Path of the file, or its state dict.
        name: The file that a state dict in memory came from, to recognise it by and for messages.
        **overrides: Fields of :class:`UNetConfig`; they win over the table.

    Raises:
        InputError: Keys are unknown or missing; or neither the table nor the overrides tell the image size, the heads
            or the attention order.
    """
    where = name or name_of(source)
    state = network_in(source, where)
    known = {field.name for field in fields(UNetConfig)}
    for override in overrides.keys() - known:
        raise InputError(f"load_adm: UNetConfig has no field {override!r}{did_you_mean(override, known)}")
    translated = translate(state, where, {})
    with broken_named(where, state):
        shapes = infer(state)
    public = _recognise(shapes, where)
    config = shapes.fields()
    if public is not None:
        told = ("image_size", "num_heads", "head_channels", "attention_order", "attention_resolutions", "dropout")
        config |= {field: getattr(public, field) for field in told}
        log.info("%s has the shapes of %s: taking %s", where, public.names[0], {n: config[n] for n in told})
    else:
        has_heads = "num_heads" in overrides or "head_channels" in overrides
        asked = [n for n in ("image_size", "attention_order") if n not in overrides]
        asked += [] if has_heads else ["num_heads or head_channels"]
        if asked:
            raise InputError(
                f"{where}: not one of the public checkpoints, and shapes do not tell {', '.join(asked)}: give "
                "what the network was trained with"
            )
        config |= {"head_channels": None, "dropout": 0.0}
        size = overrides["image_size"]
        config["attention_resolutions"] = shapes.attention_resolutions(size)
    with broken_named(where, state):
        described = UNetConfig(**(config | overrides))
    return AdmCheckpoint(described, translated, public)


def load_adm(source: Source, **overrides: Any) -> UNet:
    """The U-Net of a public guided-diffusion or improved-diffusion checkpoint, super-resolution ones too.

    Args:
        source: Path of the file, or its state dict.
        **overrides: Fields of :class:`UNetConfig`; they win over the table.

    Raises:
        InputError: As :func:`read_adm`; or the weights do not fit, with the keys.
    """
    checkpoint = read_adm(source, **overrides)
    where = name_of(source)
    with torch.device("meta"):  # a broken file may describe a network that no memory holds
        refuse_misfit(UNet(checkpoint.config), checkpoint.state, where)
    return fill(UNet(checkpoint.config), checkpoint.state, where)
