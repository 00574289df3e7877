"""The words of a command line before they are parsed."""

from pathlib import Path

from tenshot.checkpoints.runs import checkpoint_file, run_of

__all__ = ["values", "with_config"]


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
