"""The words of a command line before they are parsed."""

import os
from pathlib import Path

import yaml

from tenshot.errors import InputError
from tenshot.lightning_modules.runs import checkpoint_file, run_of

__all__ = ["check_yaml", "values", "with_config"]


def with_config(words: list[str]) -> list[str]:
    """Add what the run of the checkpoint says: its configuration, where the command line gives none, and its folder.

    The folder in the configuration is where the run began; it may have moved.
    """
    given = {word.split("=", 1)[0] for word in words}
    paths, folders = values(words, "--ckpt_path"), values(words, "--trainer.default_root_dir")
    if given & {"--help", "-h"} or not paths:
        return words
    if configs := values(words, "--config", "-c"):
        run = Path(configs[-1]).parent
        own = Path(configs[-1]).name == "config.yaml" and (run / "checkpoints").is_dir()
        return (
            [*words, "--trainer.default_root_dir", str(run)] if own and not folders and paths[-1] == "last" else words
        )
    found = Path(folders[-1]) if folders else None
    if paths[-1] != "last":
        found = run_of(checkpoint_file(paths[-1]))
    if "--model" in given or found is None or not (found / "config.yaml").is_file():
        return words
    folder = [] if folders else ["--trainer.default_root_dir", str(found)]
    return [words[0], "--config", str(found / "config.yaml"), *folder, *words[1:]]


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
