"""What an evaluation leaves: a table, a JSON file (docs/evaluation.md), and values for every logger."""

import json
import math
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

from tenshot.callbacks.drawn_by import DrawnBy
from tenshot.callbacks.ema import EMA
from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.batches import Source
from tenshot.distributed.trainer_attributes import callback_of
from tenshot.errors import InputError
from tenshot.metrics.base import Report
from tenshot.run.best_effort import best_effort
from tenshot.run.run_log import IN_FIT

__all__ = ["described", "number", "publish_result", "result_of"]

SCHEMA = 1

NO_PART_OF_THE_MEASUREMENT = ("checkpoint", "code", "date")
"""What two results of one measurement may differ in: a checkpoint may have moved, its weights have a hash."""


def result_of(
    trainer: Trainer,
    pl_module: LightningModule,
    by: DrawnBy,
    count: int,
    data: ImageDataModule,
    real: Mapping[str, Source | None],
    reports: Mapping[str, Report],
) -> dict[str, Any]:
    """What the JSON file holds.

    Args:
        trainer: Whose EMA says which weights drew.
        pl_module: What drew.
        by: All that the samples depend on.
        count: How many there are.
        data: Where the real images are from.
        real: Those that the samples were compared with, by ``shots`` and ``reference``.
        reports: Of each metric.
    """
    ema = callback_of(trainer, EMA)
    sampler, has_weights = getattr(pl_module, "sampler", None), bool(getattr(pl_module, "averaged", ()))
    return {
        "schema": SCHEMA,
        "method": type(pl_module).__name__,
        "title": getattr(pl_module, "title", None) or Path(trainer.default_root_dir).name,
        "run": str(Path(trainer.default_root_dir).resolve()),
        "checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
        "step": by.origin["step"],
        "weights": ema.weights_used(trainer, pl_module) if ema is not None and has_weights else None,
        "sampler": asdict(sampler) if is_dataclass(sampler) and not isinstance(sampler, type) else None,
        "samples": count,
        "seed": by.depends_on["seed"],
        "drawn_by": by.depends_on,
        "shots": str(real["shots"] or "") or None,
        "reference": str(real["reference"] or "") or None,
        "data": described(data),
        "values": {name: number(value) for report in reports.values() for name, value in report.values.items()},
        "metrics": {
            name: {
                "values": {key: number(value) for key, value in report.values.items()},
                "settings": report.settings,
                "details": report.details,
            }
            for name, report in reports.items()
        },
        "code": by.origin["code"],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def described(data: ImageDataModule) -> dict[str, Any]:
    """The data module, its folders in full."""
    roots = {name: getattr(data, name, None) for name in ("root", "val_root")}
    full = {
        name: [str(Path(file).resolve()) for file in root] if isinstance(root, list) else str(Path(root).resolve())
        for name, root in roots.items()
        if root
    }
    return {"class": type(data).__name__, **full, "seed": data.seed, "image_size": data.image_size}


@rank_zero_only
def publish_result(trainer: Trainer, result: dict[str, Any]) -> None:
    """Print the table, write the file, log the values."""
    name = f"step={result['step']:08d}" if result["checkpoint"] or trainer.training else result["title"]
    path = Path(trainer.default_root_dir) / "evaluations" / f"{name}.json"
    with best_effort(str(path.parent)) if trainer.training else nullcontext():
        path = _kept(path, result)

    about = [f"{result['samples']} samples", *filter(None, [result["weights"]])]
    table = Table("", result["title"], title="; ".join(about))
    for key, value in result["values"].items():
        table.add_row(key, "undefined" if value is None else f"{value:.4g}")
    console = Console()
    console.print(table)
    for metric, part in result["metrics"].items():
        if "why" in part["details"]:
            console.print(f"{metric}: {part['details']['why']}")
    console.print(str(path), soft_wrap=True)
    group = IN_FIT if trainer.training else "test"
    values = {key: value for key, value in result["values"].items() if value is not None}
    for logger in trainer.loggers:
        logger.log_metrics({f"{group}/{key}": value for key, value in values.items()}, step=result["step"])
        if isinstance(logger, WandbLogger):
            rows = [[result["title"], result["step"], key, value] for key, value in values.items()]
            logger.log_table(f"{group}/table", ["title", "step", "metric", "value"], rows, step=result["step"])
            if path.exists():  # for tenshot compare, which reads it from the server
                logger.experiment.save(str(path), base_path=trainer.default_root_dir, policy="now")


def _kept(path: Path, result: dict[str, Any]) -> Path:
    """Write a result beside those of other measurements: as ``path`` or, where that is taken, with -2, -3, … added.

    Returns:
        Where it is; where the same was found before, that file, which stays as it is.
    """
    content = json.dumps(result, indent=1, allow_nan=False) + "\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(content)
        try:
            target, number = path, 1
            while not _taken(partial, target):
                if _measurement(target) == _measurement(partial):
                    return target
                number += 1
                target = path.with_name(f"{path.stem}-{number}.json")
            return target
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: could not be written ({error.strerror or error}): free space or choose another folder"
        ) from None


def _taken(partial: Path, target: Path) -> bool:
    """Give a whole file its name, unless another has it; of several processes that try, one succeeds."""
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if target.exists():
            return False
        os.replace(partial, target)
    return True


def _measurement(file: Path) -> Any:
    """What was measured and found; nothing that equals anything, of a file that is no result."""
    try:
        content = json.loads(file.read_text())
    except ValueError:
        return object()
    if not isinstance(content, dict):
        return object()
    return {key: value for key, value in content.items() if key not in NO_PART_OF_THE_MEASUREMENT}


def number(value: float) -> float | None:
    """The value as JSON can hold it: an undefined one is null."""
    return value if math.isfinite(value) else None
