"""Names of weights in the code of guided-diffusion, improved-diffusion and GLIDE, as ours."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tenshot.errors import InputError
from tenshot.models.pretrained.filling import list_keys

__all__ = ["translate"]

_RES = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "embed", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "skip", "op": "conv",
}  # fmt: skip
_ATTENTION = {"norm": "norm", "qkv": "qkv", "proj_out": "proj", "encoder_kv": "context_kv"}
_FIXED = {
    "time_embed.0": "time_embedding.fc1",
    "time_embed.2": "time_embedding.fc2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "encoder.stem",
    "out.0": "norm",
    "out.2": "conv",
}


def _rename(key: str, head: Mapping[str, str]) -> str | None:
    """Our name for a parameter of the public code, or none if it is not one of theirs."""
    module, _, leaf = key.rpartition(".")
    fixed = head.get(module, _FIXED.get(module))
    if fixed is not None:
        return f"{fixed}.{leaf}"
    match = re.fullmatch(r"(input_blocks|middle_block|output_blocks)\.(\d+)\.(?:(\d+)\.)?(.+)", module)
    if match is None:
        return None
    part, number, slot, layer = match[1], int(match[2]), match[3], match[4]
    if part == "middle_block":
        # number is the slot here: block, attention, block
        stage, slot = ("encoder.middle.1", "0") if number == 2 else ("encoder.middle.0", str(number))
        if match[3] is not None:
            layer = f"{match[3]}.{layer}"
    else:
        stage = f"encoder.stages.{number - 1}" if part == "input_blocks" else f"decoder.{number}"
    if slot == "0":
        name = _RES.get(layer)
        return name and f"{stage}.block.{name}.{leaf}"
    if layer in _ATTENTION:
        return f"{stage}.attention.{_ATTENTION[layer]}.{leaf}"
    name = "conv" if layer == "conv" else _RES.get(layer)
    return name and f"{stage}.upsample.{name}.{leaf}"


def translate(state: Mapping[str, Tensor], where: str, head: Mapping[str, str]) -> dict[str, Tensor]:
    """The state dict under our names; 1-d convolutions become 2-d ones."""
    renamed = {key: _rename(key, head) for key in state}
    unknown = [key for key, name in renamed.items() if name is None]
    required = {"time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.0.in_layers.0.weight", "out.0.weight"}
    if unknown or not required <= state.keys():
        missing = sorted(required - state.keys())
        raise InputError(
            f"{where}: not a guided-diffusion or improved-diffusion network: "
            f"{list_keys('unknown', unknown)}; {list_keys('missing', missing)}"
        )
    _refuse_odd(state, where)
    return {
        name: state[key][..., None] if state[key].dim() == 3 and ".context_kv." not in name else state[key]
        for key, name in renamed.items()
        if name
    }


def _axes(key: str) -> tuple[int, ...]:
    """How many axes a parameter of the public code may have."""
    if key.endswith(".bias") or re.search(r"(in_layers\.0|out_layers\.0|^out\.0|\.norm)\.weight$", key):
        return (1,)
    if re.search(r"(time_embed\.\d|emb_layers\.1|label_emb|transformer_proj)\.weight$|positional_embedding$", key):
        return (2,)
    if key.endswith("encoder_kv.weight"):
        return (3,)
    return (3, 4) if re.search(r"(qkv|proj_out|qkv_proj|c_proj)\.weight$", key) else (4,)


def _refuse_odd(state: Mapping[str, Any], where: str) -> None:
    odd = [
        f"{key} {tuple(getattr(value, 'shape', ()))}" if isinstance(value, Tensor) else f"{key} {type(value).__name__}"
        for key, value in state.items()
        if not isinstance(value, Tensor) or value.dim() not in _axes(key)
    ]
    first = state.get("time_embed.0.weight")
    if not odd and isinstance(first, Tensor) and first.shape[0] != 4 * first.shape[1]:
        odd = [f"time_embed.0.weight {tuple(first.shape)}"]
    if odd:
        raise InputError(f"{where}: broken: {list_keys('oddly shaped', odd)}: take a whole file")
