"""What an evaluation leaves: a table, a JSON file (docs/evaluation.md), and values for every logger."""

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

from tenshot.callbacks.tolerance import tolerated
from tenshot.errors import InputError

__all__ = ["IN_FIT", "number", "publish_result"]

IN_FIT = "eval"
"""What the names of values begin with that are logged during fit."""


@rank_zero_only
def publish_result(trainer: Trainer, result: dict[str, Any]) -> None:
    """Print the table, write the file, log the values."""
    name = f"step={result['step']:08d}" if result["checkpoint"] or trainer.training else result["title"]
    path = Path(trainer.default_root_dir) / "evaluations" / f"{name}.json"
    with tolerated(str(path.parent)) if trainer.training else nullcontext():
        _write(path, json.dumps(result, indent=1, allow_nan=False) + "\n")

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


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: could not be written ({error.strerror or error}): free space or choose another folder"
        ) from None


def number(value: float) -> float | None:
    """The value as JSON can hold it: an undefined one is null."""
    return value if math.isfinite(value) else None
