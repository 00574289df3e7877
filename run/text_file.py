"""Text files that appear whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from tenshot.errors import InputError

__all__ = ["write_whole"]


def write_whole(path: Path, text: str, remedy: str = "free space or choose another folder") -> None:
    """Write a file beside its name and rename it; its folder is made where it is not there.

    Args:
        path: Of the file.
        text: What it is to hold.
        remedy: What to do where it cannot be written.

    Raises:
        InputError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(f"{path}: could not be written ({error.strerror or error}): {remedy}") from None
