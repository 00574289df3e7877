"""Read weight files without running code that may be hidden in them."""

import hashlib
import json
import logging
import pickle
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from tenshot.errors import InputError
from tenshot.models.pretrained.sharded import Parts, is_sharded, part_files
from tenshot.models.pretrained.unpickling import Foreign, Inert, load_pickle, load_torch
from tenshot.models.pretrained.wrapped import seems, unwrapped

__all__ = [
    "is_plain_pickle",
    "is_whole",
    "read_checkpoint",
    "read_parts",
    "read_state_dict",
    "safetensors_metadata",
    "sha256",
]

log = logging.getLogger(__name__)

_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number before an old file of torch.save


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


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """The content of a ``.safetensors`` or ``torch.save`` file or of a checkpoint in parts, on the CPU.

    Args:
        path: The file or, of a checkpoint in parts, the folder.

    Raises:
        InputError: The file is missing, truncated or no checkpoint.
    """
    parts = read_parts(path)
    return Parts(parts) if is_sharded(path) else parts[0]


def read_parts(path: str | Path) -> list[dict[str, Any]]:
    """The contents of a checkpoint's parts, in order; of an ordinary file, its content alone.

    Arguments and errors as in :func:`read_checkpoint`.
    """
    files = part_files(path) if is_sharded(path) else [Path(path)]
    if not files:
        raise InputError(f"{path}: some of its parts are missing: copy the whole folder, or give another checkpoint")
    return [_read_file(file) for file in files]


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint file")
    if path.suffix == ".safetensors":
        try:
            return cast(dict[str, Any], load_file(path))
        except SafetensorError as error:
            raise InputError(f"{path}: truncated or not a safetensors file ({error}): copy it again") from None
    content = _unpickled(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds {_a(content)}, not a dictionary of weights: give the file of the weights")
    return dict(content)


def _unpickled(path: Path) -> Any:
    """By torch's own restricted reader; what that refuses by ours, which takes more and runs as little."""
    with open(path, "rb") as file:
        head = file.read(512)
    if head.lstrip()[:1] == b"<" or head.startswith(b"version https://git-lfs"):
        what = "a web page" if head.lstrip()[:1] == b"<" else "a pointer of Git LFS"
        raise InputError(f"{path}: {what}, not the file itself: download it again")
    foreign: list[str] = []
    try:
        if is_plain_pickle(path):
            content, foreign = load_pickle(path)
        else:
            try:
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_whole(path))
            except pickle.UnpicklingError:
                content, foreign = load_torch(path, mmap=is_whole(path))
    except Foreign as refused:
        raise InputError(f"{path}: {refused}: refused, nothing of it was run") from None
    except Exception as error:  # on bytes that are no pickle the unpickler stumbles in many ways
        if "TorchScript" in str(error):
            raise InputError(f"{path}: a compiled network of TorchScript: give the file of its weights") from None
        reason = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: truncated or not a checkpoint ({reason}): copy or download it again") from None
    if foreign:
        shown = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
        log.info("%s: holds objects that are not read (%s); nothing of them was run", path, shown)
    return content


def _a(content: object) -> str:
    return "an object of a class that is not read" if isinstance(content, Inert) else f"a {type(content).__name__}"


def read_state_dict(source: str | Path | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A flat dictionary name -> tensor, from a file or already in memory.

    Raises:
        InputError: As :func:`read_checkpoint`, or the values are not tensors.
    """
    state = dict(source) if isinstance(source, Mapping) else read_checkpoint(source)
    flat = unwrapped(state, lambda inner: bool(inner) and all(isinstance(value, Tensor) for value in inner.values()))
    state = dict(flat) if flat is not None else state
    odd = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if odd is not None or not state:
        where = "the state dict" if isinstance(source, Mapping) else str(source)
        found = "is empty" if odd is None else f"has {odd!r}, a {type(state[odd]).__name__}"
        raise InputError(f"{where}: {seems(state)}: expected a plain dictionary of tensors, but it {found}")
    return cast(dict[str, Tensor], state)
