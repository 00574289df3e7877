"""The folder of a run: ``checkpoints/step=00000500.ckpt``, of which the newest whole one counts.

``config.yaml`` is the configuration that it goes on with, ``config.until_step=00000500.yaml`` one that it had until
that step. A checkpoint is a file or, where weights are sharded over processes, a folder with a part of each.
"""

from pathlib import Path

from tenshot.checkpoints.shipped import shipped_file
from tenshot.errors import InputError
from tenshot.models.pretrained import is_whole, read_checkpoint
from tenshot.models.pretrained.sharded import is_sharded

__all__ = [
    "checkpoint_file",
    "checkpoint_path",
    "checkpoint_step",
    "checkpoints_of",
    "configuration_at",
    "configuration_until",
    "holds_run",
    "later_configurations",
    "newest_checkpoint",
    "run_of",
]


def checkpoint_path(run: Path, step: int) -> Path:
    """Where a run saves that optimiser step."""
    return run / "checkpoints" / f"step={step:08d}.ckpt"


def checkpoints_of(run: Path) -> list[Path]:
    """Checkpoints of a run, newest step first."""
    return sorted((run / "checkpoints").glob("step=*.ckpt"), reverse=True)


def newest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, if it has one."""
    return next((path for path in checkpoints_of(run) if is_whole(path)), None)


def checkpoint_file(path: str | Path) -> Path:
    """The file itself (the folder, of a checkpoint in parts), or the newest checkpoint of a run's folder.

    path: that file or folder, or the name of a source that comes with the package, ``tenshot:faces64``

    Raises:
        InputError: There is no such file, no checkpoint in the folder, or no source of that name.
    """
    path = shipped_file(path) or Path(path)
    if path.is_dir() and not is_sharded(path):
        newest = newest_checkpoint(path)
        if newest is None:
            raise InputError(f"{path}: no whole checkpoint in its folder checkpoints")
        return newest
    if not path.exists():
        raise InputError(f"{path}: no such checkpoint file or run folder")
    return path


def holds_run(folder: Path) -> bool:
    """Whether somebody's run is there already."""
    return (folder / "config.yaml").exists() or next(iter(checkpoints_of(folder)), None) is not None


def run_of(path: str | Path) -> Path | None:
    """The folder of the run that a checkpoint belongs to; none for a file that lies in no run.

    path: a checkpoint, or the folder of a run
    """
    path = Path(path)
    if path.is_dir() and not is_sharded(path):
        return path
    for place in (path, path.resolve()):  # a link to a checkpoint may lie anywhere
        if place.parent.name == "checkpoints" and (place.parents[1] / "config.yaml").exists():
            return place.parents[1]
    return None


def checkpoint_step(path: Path) -> int:
    """The optimiser step that a checkpoint is of; -1 where it does not say.

    Raises:
        InputError: It cannot be read.
    """
    return int(read_checkpoint(path).get("global_step", -1))


def configuration_until(run: Path, step: int) -> Path:
    """Where a run keeps the configuration that it had until that step."""
    return run / f"config.until_step={step:08d}.yaml"


def later_configurations(run: Path, step: int) -> list[Path]:
    """Those that it had until a step after that one, in order."""
    return sorted(path for path in run.glob("config.until_step=*.yaml") if path > configuration_until(run, step))


def configuration_at(run: Path, step: int) -> Path:
    """The configuration that a run did that step with."""
    exact = configuration_until(run, step)
    return next(iter([exact] if exact.exists() else later_configurations(run, step)), run / "config.yaml")
