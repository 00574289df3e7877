"""Source models that come with the package, named ``tenshot:faces64`` (docs/sources.md)."""

from importlib.resources import files
from pathlib import Path

from tenshot.errors import InputError, did_you_mean

__all__ = ["shipped_file", "shipped_names"]

PREFIX = "tenshot:"
FOLDER = Path(str(files("tenshot.sources")))


def shipped_names() -> list[str]:
    """The names of all that come with the package, ``tenshot:faces64`` and so on, sorted."""
    return [f"{PREFIX}{name}" for name in sorted(file.stem for file in FOLDER.glob("*.safetensors"))]


def shipped_file(path: str | Path) -> Path | None:
    """The file behind a name such as ``tenshot:faces64``; none for a path, which is no such name.

    Raises:
        InputError: No source of that name comes with the package.
    """
    if not str(path).startswith(PREFIX):
        return None
    name = str(path).removeprefix(PREFIX)
    there = [each.removeprefix(PREFIX) for each in shipped_names()]
    if name not in there:
        named = f"take one of {', '.join(there)}" if there else "this version has none yet, give a run or a file"
        raise InputError(f"{path}: no source of that name comes with tenshot{did_you_mean(name, there)}: {named}")
    return FOLDER / f"{name}.safetensors"
