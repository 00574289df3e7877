"""Read weight files without running code that may be hidden in them."""

import argparse
import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from tenshot.errors import InputError
from tenshot.models.pretrained.sharded import Parts, is_sharded, part_files

__all__ = [
    "is_plain_pickle",
    "is_whole",
    "read_checkpoint",
    "read_parts",
    "read_state_dict",
    "safetensors_metadata",
    "sha256",
]


_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number before an old file of torch.save
_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [argparse.Namespace]
"""Allowed in files: the options of a run, which many public checkpoints hold; attributes, no code."""


def is_plain_pickle(path: str | Path) -> bool:
    """Whether it is a file that is a pickle, and not one that ``torch.save`` wrote."""
    if Path(path).is_dir():
        return False
    with open(path, "rb") as file:
        head = file.read(len(_TORCH_LEGACY))
    return head.startswith(b"\x80") and head != _TORCH_LEGACY


def is_whole(path: str | Path) -> bool:
    """Whether a file written by ``torch.save`` still has its end: a torn write loses the zip directory.

    Of a checkpoint in parts, whether each has.
    """
    files = part_files(path) if Path(path).is_dir() else [Path(path)]
    return bool(files) and all(map(zipfile.is_zipfile, files))


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content; of a checkpoint in parts, that of their hashes."""
    if Path(path).is_dir():
        return hashlib.sha256("".join(map(sha256, part_files(path))).encode()).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safetensors_metadata(path: str | Path) -> dict[str, Any]:
    """The JSON values in the header of a safetensors file, by key; other programs write words, which are left out."""
    values = {}
    with safe_open(str(path), framework="pt") as file:
        for key, value in (file.metadata() or {}).items():
            with suppress(json.JSONDecodeError):
                values[key] = json.loads(value)
    return values


def read_checkpoint(path: str | Path, allow_pickle: bool = False) -> Mapping[str, Any]:
    """The content of a ``.safetensors`` or ``torch.save`` file or of a checkpoint in parts, on the CPU.

    Args:
        path: The file or, of a checkpoint in parts, the folder.
        allow_pickle: Also read files that may run code of their author. Only for files you trust.

    Raises:
        InputError: The file is missing, truncated, holds code and allow_pickle is off, or is no checkpoint.
    """
    parts = read_parts(path, allow_pickle)
    return Parts(parts) if is_sharded(path) else parts[0]


def read_parts(path: str | Path, allow_pickle: bool = False) -> list[dict[str, Any]]:
    """The contents of a checkpoint's parts, in order; of an ordinary file, its content alone.

    Arguments and errors as in :func:`read_checkpoint`.
    """
    files = part_files(path) if is_sharded(path) else [Path(path)]
    if not files:
        raise InputError(f"{path}: some of its parts are missing: copy the whole folder, or give another checkpoint")
    return [_read_file(file, allow_pickle) for file in files]


def _read_file(path: Path, allow_pickle: bool) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint file")
    if path.suffix == ".safetensors":
        try:
            return cast(dict[str, Any], load_file(path))
        except SafetensorError as error:
            raise InputError(f"{path}: truncated or not a safetensors file ({error}): copy it again") from None
    if is_plain_pickle(path):  # torch.load cannot read it, but where allowed would first run what it says
        raise InputError(f"{path}: a plain pickle, not a file of torch.save: no weights are read from it")
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_whole(path))
    except pickle.UnpicklingError as error:
        if not allow_pickle:
            raise InputError(_refusal(path, str(error))) from None
        content = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # on bytes that are no pickle the unpickler stumbles in many ways
        reason = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: truncated or not a checkpoint ({reason}): copy or download it again") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    return dict(content)


def _refusal(path: Path, error: str) -> str:
    """Why a pickle was refused: a foreign class in it, or bytes that are no pickle at all."""
    marker = "GLOBAL "
    if marker in error:
        name = error.split(marker, 1)[1].split()[0]
        return (
            f"{path}: holds {name}, which may run code when read: if you trust the file, opt in with allow_pickle "
            "(--model.allow_pickle true; for --ckpt_path, --weights_only false)"
        )
    return f"{path}: truncated or not a checkpoint: copy or download it again"


def read_state_dict(source: str | Path | Mapping[str, Tensor], allow_pickle: bool = False) -> dict[str, Tensor]:
    """A flat dictionary name -> tensor, from a file or already in memory.

    Raises:
        InputError: As :func:`read_checkpoint`, or the values are not tensors.
    """
    state = dict(source) if isinstance(source, Mapping) else read_checkpoint(source, allow_pickle)
    odd = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if odd is not None or not state:
        where = "the state dict" if isinstance(source, Mapping) else str(source)
        found = "is empty" if odd is None else f"has {odd!r}, a {type(state[odd]).__name__}"
        raise InputError(f"{where}: expected a plain dictionary of tensors, but it {found}")
    return cast(dict[str, Tensor], state)
