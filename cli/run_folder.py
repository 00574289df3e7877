"""The folder of a run, which a command writes to, and the checkpoint that it begins with."""

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from tenshot.checkpoints.runs import checkpoint_file, holds_run, newest_checkpoint, run_of
from tenshot.cli.registry import UNTRAINED
from tenshot.errors import InputError

__all__ = ["for_evaluation", "for_training", "is_trained"]


def is_trained(command: str, method: str, asked: str | None) -> bool:
    """Whether a method has checkpoints, and does not draw from what it is configured with.

    Args:
        command: Which is to be done.
        method: Name of its class.
        asked: --ckpt_path.

    Raises:
        InputError: It has none, but one is given, or it is to be trained.
    """
    if method in UNTRAINED and asked is not None:
        raise InputError(f"--ckpt_path {asked}: {method} draws from what --model names: leave it out")
    if method in UNTRAINED and command == "fit":
        raise InputError(f"{method} is not trained: draw from it with tenshot predict, or measure it with test")
    return method not in UNTRAINED


def for_training(asked: str | None, folder: Path, explicit: bool) -> tuple[Path, Path | None]:
    """The folder of ``tenshot fit`` and the checkpoint that it goes on from.

    A checkpoint belongs to the run in whose folder it lies, and training goes on there. From a file of no run (copied
    out, or downloaded), or where the command line names a new folder, a new run begins with it. An earlier run is
    never written into otherwise.

    Args:
        asked: --ckpt_path: ``last`` in the folder, the folder of a run, or a file.
        folder: --trainer.default_root_dir.
        explicit: Whether the command line gives the folder, not a configuration file.

    Raises:
        InputError: There is no such checkpoint, or the command line names the folder of another run.
    """
    if asked is None:
        return _free(folder), None
    if asked == "last":
        newest = newest_checkpoint(folder)
        if newest is None:
            rank_zero_info(f"{folder}: no checkpoint yet, starting from the beginning")
        return folder, newest
    checkpoint = checkpoint_file(asked)
    home = run_of(asked)
    if home is not None and (not explicit or home.resolve() == folder.resolve()):
        if home.resolve() != folder.resolve():
            rank_zero_info(f"going on in {home}, the run of the checkpoint, not in {folder}")
        return home, checkpoint
    if explicit and holds_run(folder):
        whose = f"is of the run {home}" if home else "is of no run here"
        remedy = "leave out --trainer.default_root_dir to go on there, or name a folder" if home else "name a folder"
        raise InputError(
            f"{checkpoint} {whose}, but --trainer.default_root_dir {folder} holds another run, which is not written "
            f"over: {remedy} that holds no run"
        )
    folder = _free(folder)
    rank_zero_info(f"{checkpoint}: going on from it in a new run, {folder}")
    return folder, checkpoint


def for_evaluation(
    command: str, asked: str | None, folder: Path, explicit: bool, weights: str | None
) -> tuple[Path, Path | None]:
    """The folder of a command that looks at a checkpoint, that of its run where the command line gives none, and it.

    Without a checkpoint it looks at the weights that the method starts from, in a folder that holds no run.

    Args:
        command: Which, for the error.
        asked: --ckpt_path.
        folder: --trainer.default_root_dir.
        explicit: Whether the command line gives the folder.
        weights: --model.init_from.

    Raises:
        InputError: Neither is given, or there is none.
    """
    if asked is None and weights is not None:
        return folder if explicit else _free(folder), None
    if asked is None:
        raise InputError(
            f"tenshot {command} needs --ckpt_path: a checkpoint, a run's folder, or last; or weights, --model.init_from"
        )
    if asked == "last":
        return folder, checkpoint_file(folder)
    home = run_of(asked)
    return (folder if explicit or home is None else home), checkpoint_file(asked)


def _free(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, … that holds no run."""
    candidate, number = folder, 1
    while holds_run(candidate):
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    if number > 1:
        rank_zero_info(f"{folder} holds a run (resume it with --ckpt_path {folder}): this one goes to {candidate}")
    return candidate
