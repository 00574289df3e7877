"""One line of history in a run: what came after the step that training goes back to is set aside."""

import re
import shutil
from contextlib import suppress
from pathlib import Path

from tenshot.checkpoints.runs import checkpoint_step, checkpoints_of, later_configurations
from tenshot.checkpoints.uses import note_path
from tenshot.errors import InputError
from tenshot.run.run_log import rows_cut

__all__ = ["set_aside"]

BY_STEP = ("samples", "strips", "evaluations")
"""Folders of a run whose files are named by steps."""


def set_aside(run: Path, step: int, changed: bool) -> str | None:
    """Move what a run holds of later steps to ``checkpoints/abandoned-after-step=…``; nothing is deleted.

    What a killed run logged after its last checkpoint is no branch: it is done again, to the same numbers.

    Args:
        run: Its folder.
        step: That training goes on from.
        changed: Whether it goes on with another configuration, to other numbers.

    Returns:
        What was moved, in words; none if there was nothing.

    Raises:
        InputError: It could not be moved.
    """
    checkpoints = [path for path in checkpoints_of(run) if int(path.stem.removeprefix("step=")) > step]
    best, later = run / "checkpoints" / "best.ckpt", later_configurations(run, step)
    with suppress(InputError):  # torn, it is of no step
        if best.exists() and checkpoint_step(best) > step:
            checkpoints.append(best)
    if not (checkpoints or changed or later):
        return None
    files = [path for folder in BY_STEP for path in sorted((run / folder).glob("step=*")) if _step_of(path) > step]
    folder = _free(run / "checkpoints" / f"abandoned-after-step={step:08d}")
    try:
        rows = rows_cut(run, step, folder / "metrics.csv")
        if not (checkpoints or files or rows or later):
            return None
        folder.mkdir(parents=True, exist_ok=True)
        if (run / "config.yaml").exists():
            shutil.copy2(run / "config.yaml", folder)
        for path in [*checkpoints, *map(note_path, checkpoints), *later]:  # the newest checkpoint first
            if path.exists():
                path.rename(folder / path.name)
        for path in files:
            (folder / path.parent.name).mkdir(exist_ok=True)
            path.rename(folder / path.parent.name / path.name)
    except OSError as error:
        raise InputError(
            f"{folder}: what came after step {step} could not be set aside there ({error.strerror or error}): free "
            "space, or go on in a new folder with --trainer.default_root_dir"
        ) from None
    counts = {"checkpoints": len(checkpoints), "rows of the log": rows, "images and evaluations": len(files)}
    words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"going on from step {step}: what came after it ({words or 'a configuration'}) is set aside in {folder}"


def _step_of(path: Path) -> int:
    found = re.match(r"step=(\d+)", path.name)
    return int(found[1]) if found else -1


def _free(folder: Path) -> Path:
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate
