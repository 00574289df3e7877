"""What an evaluation leaves: a table, a JSON file (docs/evaluation.md), and values for every logger."""

import json
import math
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

__all__ = ["number", "publish_result"]


@rank_zero_only
def publish_result(trainer: Trainer, result: dict[str, Any]) -> None:
    """Print the table, write the file, log the values."""
    name = f"step={result['step']:08d}" if result["checkpoint"] or trainer.training else result["title"]
    path = Path(trainer.default_root_dir) / "evaluations" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    partial.replace(path)

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
    group = "eval" if trainer.training else "test"
    for logger in trainer.loggers:
        values = {f"{group}/{key}": value for key, value in result["values"].items() if value is not None}
        logger.log_metrics(values, step=result["step"])


def number(value: float) -> float | None:
    """The value as JSON can hold it: an undefined one is null."""
    return value if math.isfinite(value) else None
