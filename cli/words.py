"""The words of a command line before they are parsed."""

import os
from pathlib import Path

import yaml

from tenshot.errors import InputError
from tenshot.lightning_modules.runs import checkpoint_file

__all__ = ["check_yaml", "values", "with_config"]


def with_config(words: list[str]) -> list[str]:
    """Add the configuration of the run that the checkpoint belongs to, where the command line gives none."""
    given = {word.split("=", 1)[0] for word in words}
    if words[0] == "fit" or given & {"--config", "-c", "--model", "--help", "-h"}:
        return words
    paths = values(words, "--ckpt_path")
    if not paths or paths[0] == "last":
        return words
    folder = checkpoint_file(paths[0]).parent.parent
    config = folder / "config.yaml"
    if not config.is_file():
        return words
    return [
        words[0],
        "--config",
        str(config),
        "--trainer.default_root_dir",
        str(folder),
        *words[1:],
    ]  # it may have moved


def values(words: list[str], *options: str) -> list[str]:
    """What the command line gives these options, as ``--option value`` or ``--option=value``."""
    return [
        word.split("=", 1)[1] if "=" in word else after
        for word, after in zip(words, [*words[1:], ""], strict=True)
        if word.split("=", 1)[0] in options
    ]


def check_yaml(paths: list[str]) -> None:
    """Name the file and the line of a mistake in YAML, which the parser would not.

    Raises:
        InputError: A file is not YAML, or not a set of options.
    """
    for path in filter(os.path.isfile, paths):
        try:
            content = yaml.safe_load(Path(path).read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
            where = f", line {mark.line + 1}" if mark else ""
            raise InputError(f"{path}{where}: not valid YAML ({problem or type(error).__name__}): mend it") from None
        if not isinstance(content, dict):
            raise InputError(f"{path}: holds no options: write a configuration as --print_config shows one")
