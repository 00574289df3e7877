"""A choice of images, once made, stays: it is recorded in the run's folder and in every checkpoint."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from tenshot.checkpoints.runs import holds_run, run_of
from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.choice import BY_LISTING, Record
from tenshot.distributed.trainer_attributes import is_trial
from tenshot.errors import InputError
from tenshot.models.pretrained import read_checkpoint

__all__ = ["FILE", "KEY", "DataRecord", "choice_as_recorded", "go_on_with_data_of"]

FILE = "data.json"
"""In the run's folder."""
KEY = "data"
"""In a checkpoint."""


class DataRecord(Callback):
    """Record which images are trained on and which are held out, by name and content (docs/data.md)."""

    def __init__(self) -> None:
        self._record: Record | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``data.json``; what it said before stays in it as ``earlier``."""
        data = getattr(trainer, "datamodule", None)
        self._record = data.data_record() if isinstance(data, ImageDataModule) else None
        if self._record is None or not trainer.is_global_zero or is_trial(trainer):
            return
        path = Path(trainer.default_root_dir) / FILE
        before = _read(path) if holds_run(path.parent) else None  # not what a start that failed has left
        if before is None or {**before, "earlier": None} != {**self._record, "earlier": None}:
            self._write(path, self._record if before is None else {**self._record, "earlier": before})
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):  # for tenshot compare, which reads it from the server
                logger.experiment.save(str(path), base_path=trainer.default_root_dir, policy="now")

    def _write(self, path: Path, content: Record) -> None:
        partial = path.with_name(f".{FILE}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content, indent=1) + "\n")
            os.replace(partial, path)
        except OSError as error:
            raise InputError(
                f"{path}: could not be written ({error.strerror or error}): free space or choose another folder"
            ) from None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add it."""
        if self._record is not None:
            checkpoint[KEY] = self._record


def go_on_with_data_of(data: Any, checkpoint: str | None) -> None:
    """Let a data module use the images that a checkpoint's run has chosen.

    A run from before there were records goes on by the rule that it began with.

    Args:
        data: Of any class; only those of images choose.
        checkpoint: Of a run, or weights of another origin; none: there is nothing to go on with.
    """
    if checkpoint is None or not isinstance(data, ImageDataModule):
        return
    path = Path(checkpoint)
    content = read_checkpoint(path) if path.suffix == ".ckpt" else {}
    if _is_record(content.get(KEY)):
        data.recorded = content[KEY]
    elif "pytorch-lightning_version" in content:
        choice_as_recorded(data, run_of(path) or path.parent.parent)


def choice_as_recorded(data: ImageDataModule, run: Path) -> None:
    """The same by the folder of a run: what ``data.json`` says; without it the run is older than records."""
    found = _read(run / FILE)
    if found is not None and _is_record(found):
        data.recorded = found
    else:
        data.rule = BY_LISTING


def _is_record(found: Any) -> bool:
    return isinstance(found, dict) and {"class", "rule", "request", "train"} <= found.keys()


def _read(path: Path) -> Record | None:
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text())
        return content if isinstance(content, dict) else None
    return None
