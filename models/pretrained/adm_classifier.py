"""Public classifiers of noisy images as our networks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tenshot.errors import InputError
from tenshot.models.classifier import UNetClassifier
from tenshot.models.pretrained.adm import Source, blocks_of, infer, name_of, network_in
from tenshot.models.pretrained.adm_names import translate
from tenshot.models.pretrained.adm_zoo import CLASSIFIERS
from tenshot.models.pretrained.filling import broken_named, fill, refuse_misfit
from tenshot.models.unet_config import UNetConfig

__all__ = ["is_classifier", "load_adm_classifier"]

_HEAD = {"out.2": "pool", "out.2.qkv_proj": "pool.qkv", "out.2.c_proj": "pool.proj", "out.3": "pool"}


def is_classifier(state: Mapping[str, Any]) -> bool:
    """Whether a state dict of the public code has no decoder."""
    return any(key.startswith("input_blocks.") for key in state) and not any(
        key.startswith("output_blocks.") for key in state
    )


def load_adm_classifier(source: Source, name: str | None = None, **overrides: Any) -> UNetClassifier:
    """The classifier of noisy images of a public guided-diffusion checkpoint.

    Args:
        source: Path of the file, or its state dict.
        name: The file that a state dict in memory came from, for messages.
        **overrides: Fields of :class:`UNetConfig`, and ``pool``; they win.

    Raises:
        InputError: Keys are unknown or missing, or the depth cannot be told (give num_res_blocks).
    """
    where = name or name_of(source)
    state = network_in(source, where)
    _refuse_spatial(state, where)
    translated = translate(state, where, _HEAD)
    attention_pool = "out.2.positional_embedding" in state
    if not attention_pool and "image_size" not in overrides:
        raise InputError(
            f"{where}: without out.2.positional_embedding, of an attention pool, shapes do not tell image_size: give it"
        )
    pool = overrides.pop("pool", "attention" if attention_pool else "adaptive")
    with torch.device("meta"), broken_named(where, state):
        depth = overrides.get("num_res_blocks") or _depth(state, where)
        shapes = infer(state, depth)
        config = shapes.fields()
        if attention_pool:
            config["out_channels"] = state["out.2.c_proj.weight"].shape[0]
            side = round((state["out.2.positional_embedding"].shape[1] - 1) ** 0.5)
            config["image_size"] = side * 2 ** (len(shapes.channel_mult) - 1)
        else:
            config["out_channels"] = state["out.3.weight"].shape[0]
        size = (config | overrides)["image_size"]
        config |= {
            "head_channels": 64,  # all public files have such
            "attention_resolutions": shapes.attention_resolutions(size),
        }
        described = UNetConfig(**(config | overrides))
        refuse_misfit(UNetClassifier(described, pool), translated, where)
    return fill(UNetClassifier(described, pool), translated, where)


def _refuse_spatial(state: Mapping[str, Tensor], where: str) -> None:
    """The pools ``spatial`` and ``spatial_v2`` of the public code begin with a linear layer; no public file has one."""
    first = state.get("out.0.weight")
    if isinstance(first, Tensor) and first.dim() == 2:
        pool = "spatial_v2" if "out.3.weight" in state else "spatial"
        raise InputError(
            f"{where}: a classifier with the pool {pool} (out.0.weight {tuple(first.shape)}), which there is not here: "
            "take one that was trained with --classifier_pool attention or adaptive"
        )


def _depth(state: Mapping[str, Tensor], where: str) -> int:
    """Residual blocks a level of a public classifier: without a decoder its blocks could be grouped in several ways."""
    blocks = max(blocks_of(state, "input_blocks"))
    for known in CLASSIFIERS:
        levels = len(known.channel_mult)
        if blocks != known.num_res_blocks * levels + levels - 1:
            continue
        starts = range(1, blocks + 1, known.num_res_blocks + 1)
        widths = [state[f"input_blocks.{n}.0.out_layers.0.weight"].shape[0] for n in starts]
        if widths == [int(128 * mult) for mult in known.channel_mult]:
            return known.num_res_blocks
    raise InputError(f"{where}: not one of the public classifiers, and shapes do not tell num_res_blocks: give it")
