"""Lists of pairs: a text file with a line each, or JSON lines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tenshot.datamodules.files import SUFFIXES
from tenshot.errors import InputError

__all__ = ["Listed", "read_list"]

_IMAGE = ("image", "target", "file_name")
"""Keys of the image in JSON lines: ours, ControlNet's, that of Hugging Face's metadata.jsonl."""
_CONDITION = ("condition", "source", "conditioning_image")
_ALSO = {"normals": ("normals", "normal")}


@dataclass(frozen=True)
class Listed:
    """What a list names.

    Args:
        title: The file.
        folder: That it lies in.
        images: Names of the images.
        conditions: For each part of the condition the names of its files; empty where the list has images alone.
    """

    title: str
    folder: Path
    images: list[str]
    conditions: list[list[str]]


def read_list(path: str, parts: Sequence[str], option: str) -> Listed:
    """A list of images, or of images and their conditions.

    In a text file, a line has the name of an image, and after a tab, comma or blank the parts of its condition.
    JSON lines have ``{"image": …, "condition": …}``, or a part by its name, or as ControlNet ``target`` and ``source``,
    as Hugging Face ``file_name`` and ``conditioning_image``. Empty lines and those that begin with # don't count.

    Args:
        parts: Names of the parts of the condition.
        option: That gave the path.

    Raises:
        InputError: The file cannot be read, names nothing, or a line is none of these.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"{path} cannot be read ({reason}): set {option} to a list of images") from None
    rows: list[list[str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{path}: line {number}"
        row = _of_json(line, parts, where) if line.lstrip().startswith("{") else _of_text(line, len(parts))
        if len(row) not in (1, 1 + len(parts)):
            raise InputError(
                f"{where} names {len(row)} files: write the image"
                + "".join(f" and its {part}" for part in parts)
                + ", or the image alone"
            )
        if rows and len(row) != len(rows[0]):
            raise InputError(f"{where} names {len(row)} files, lines before it {len(rows[0])}: write all alike")
        rows.append(row)
    if not rows:
        raise InputError(f"{path} names no images: set {option} to a list that does")
    images, *conditions = (list(column) for column in zip(*rows, strict=True))
    return Listed(path, Path(path).parent, images, conditions)


def _of_text(line: str, parts: int) -> list[str]:
    """Names may have commas and blanks: a line is split there only where each piece has the ending of an image."""
    for sign in ("\t", ",", None):
        words = [word.strip() for word in line.split(sign) if word.strip()]
        if parts and len(words) > 1 and (sign == "\t" or all(word.lower().endswith(SUFFIXES) for word in words)):
            return words
    return [line.strip()]


def _of_json(line: str, parts: Sequence[str], where: str) -> list[str]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{where} is no JSON object: write one a line") from None
    image = next((content[key] for key in _IMAGE if key in content), None)
    if not isinstance(image, str):
        raise InputError(f'{where} names no image: write {{"image": "a.jpg", "condition": "a.png"}}')
    found: list[str] = []
    for part in parts:
        keys = _ALSO.get(part, (part,)) + (_CONDITION if len(parts) == 1 else ())
        value = next((content[key] for key in keys if key in content), None)
        if value is not None and not isinstance(value, str):
            raise InputError(f"{where}: {part} is no name of a file")
        found += [] if value is None else [value]
    return [image, *found]
