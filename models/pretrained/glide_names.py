"""Names of weights in the transformer of GLIDE and in the condition encoder of PITI, as ours."""

import re
from collections.abc import Mapping

from torch import Tensor

from tenshot.errors import InputError
from tenshot.models.pretrained.filling import list_keys

__all__ = ["rename_encoder"]

_LAST_CONV = 6
_BLOCK = {
    "ln_1": "norm1", "attn.c_qkv": "qkv", "attn.c_proj": "proj",
    "ln_2": "norm2", "mlp.c_fc": "fc1", "mlp.c_proj": "fc2",
}  # fmt: skip
_TEXT = ("token_embedding.weight", "positional_embedding", "padding_embedding")
_CONDITION = {"cls_token": "class_token", "positional_embedding": "positional_embedding"}


def _rename(key: str, text: bool) -> str | None:
    """Our name for a weight, or none if it is not one of theirs."""
    if match := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)", key):
        layer = _BLOCK.get(match[2])
        return layer and f"blocks.{match[1]}.{layer}.{match[3]}"
    if key.startswith("final_ln."):
        return f"norm.{key.removeprefix('final_ln.')}"
    if text:
        return key if key in _TEXT else None
    if match := re.fullmatch(r"cnn\.(conv|norm)([1-6])\.(weight|bias)", key):
        number = int(match[2])
        return f"conv.{match[3]}" if number == _LAST_CONV else f"{match[1]}s.{number - 1}.{match[3]}"
    return _CONDITION.get(key)


def rename_encoder(state: Mapping[str, Tensor], text: bool, where: str) -> dict[str, Tensor]:
    """The weights of a text transformer, or of a condition encoder, under our names.

    Raises:
        InputError: Some are not of it.
    """
    renamed = {key: _rename(key, text) for key in state}
    unknown = [key for key, name in renamed.items() if name is None]
    if unknown:
        raise InputError(f"{where}: not a {'GLIDE' if text else 'PITI'} network: {list_keys('unknown', unknown)}")
    return {name: state[key] for key, name in renamed.items() if name}
