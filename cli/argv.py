"""The arguments of a command line before they are parsed."""

from pathlib import Path

from tenshot.checkpoints.runs import checkpoint_file, run_of

__all__ = ["values", "with_config"]


def with_config(argv: list[str]) -> list[str]:
    """Add what the run of the checkpoint says: its configuration, where the command line gives none, and its folder.

    The folder in the configuration is where the run began; it may have moved.
    """
    given = {arg.split("=", 1)[0] for arg in argv}
    paths, folders = values(argv, "--ckpt_path"), values(argv, "--trainer.default_root_dir")
    if given & {"--help", "-h"} or not paths:
        return argv
    if configs := values(argv, "--config", "-c"):
        run = Path(configs[-1]).parent
        own = Path(configs[-1]).name == "config.yaml" and (run / "checkpoints").is_dir()
        return [*argv, "--trainer.default_root_dir", str(run)] if own and not folders and paths[-1] == "last" else argv
    found = Path(folders[-1]) if folders else None
    if paths[-1] != "last":
        found = run_of(checkpoint_file(paths[-1]))
    if "--model" in given or found is None or not (found / "config.yaml").is_file():
        return argv
    folder = [] if folders else ["--trainer.default_root_dir", str(found)]
    return [argv[0], "--config", str(found / "config.yaml"), *folder, *argv[1:]]


def values(argv: list[str], *options: str) -> list[str]:
    """What the command line gives these options, as ``--option value`` or ``--option=value``."""
    return [
        arg.split("=", 1)[1] if "=" in arg else after
        for arg, after in zip(argv, [*argv[1:], ""], strict=True)
        if arg.split("=", 1)[0] in options
    ]
