"""Which code a result was made with."""

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

__all__ = ["code_version"]


@cache
def code_version() -> str:
    """The git revision of the sources, ``-dirty`` if they were changed since; or the version that is installed."""
    folder = Path(__file__).parents[1]
    if (folder / ".git").exists():
        words = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
        try:
            return subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        except (OSError, subprocess.SubprocessError):  # no git here, or a folder of somebody else's
            pass
    return version("tenshot")
