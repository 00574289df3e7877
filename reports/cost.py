"""What a run cost, as far as its folder tells."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tenshot.reports.curves import logged
from tenshot.reports.run import Run

__all__ = ["Cost", "cost_of"]

QUICKEST = 200.0
"""Steps a second: no training is faster, so files that say so are copies."""
SECONDS = 120.0
"""That an evaluation's file may be younger than the date in it; a copy is younger."""
MEMORY = ("peak_memory", "max_memory")
"""Parts of the names of columns that hold peak memory."""


@dataclass(frozen=True)
class Cost:
    """Of training, not of drawing and measuring afterwards. What is None was not recorded.

    Args:
        steps: Of the optimiser.
        pictures: Shown to the networks in all.
        hours: From the start to the last checkpoint, with all pauses, by the times of files.
        devices: How many there were.
        device: ``CPU`` or ``GPU``, where that is known.
        memory: (column of the log, largest value in it)
    """

    steps: int | None
    pictures: int | None
    hours: float | None
    devices: int | None
    device: str | None
    memory: tuple[str, float] | None

    @property
    def device_hours(self) -> float | None:
        """Hours by devices."""
        return None if self.hours is None or self.devices is None else self.hours * self.devices


def cost_of(run: Run) -> Cost:
    """Read it off the log, the configuration and the times of files."""
    columns, devices, batch = logged(run), _devices(run), run.config.get("data.batch_size")
    last = [int(line[-1][0]) + 1 for name, line in columns.items() if name.startswith("train/")]
    checkpoints = sorted((run.folder / "checkpoints").glob("step=*.ckpt"))
    steps = int(checkpoints[-1].stem.removeprefix("step=")) if checkpoints else max(last, default=None)
    accumulated = run.config.get("trainer.accumulate_grad_batches", 1)
    pictures = steps * batch * accumulated * devices if steps and batch and devices else None
    hours = _hours(run, checkpoints[-1], steps) if checkpoints and steps else None
    peaks = {name: max(v for _, v in line) for name, line in columns.items() if any(m in name for m in MEMORY)}
    memory = max(peaks.items(), key=lambda peak: peak[1], default=None)
    accelerator = str(run.config.get("trainer.accelerator", "auto"))
    device = {"cpu": "CPU", "gpu": "GPU", "cuda": "GPU"}.get(accelerator)
    return Cost(steps, pictures, hours, devices, device, memory)


def _hours(run: Run, checkpoint: Path, steps: int) -> float | None:
    """From when config.yaml was written to when the checkpoint was; None where that cannot be when they were made.

    A copy has new times. It shows where an evaluation is younger than it says, or training too fast.
    """
    for evaluation in (run.folder / "evaluations").glob("*.json"):
        said = datetime.fromisoformat(json.loads(evaluation.read_text())["date"]).timestamp()
        if evaluation.stat().st_mtime - said > SECONDS:
            return None
    config = run.folder / "config.yaml"
    if not config.exists():
        return None
    seconds = checkpoint.stat().st_mtime - config.stat().st_mtime
    return seconds / 3600 if seconds > steps / QUICKEST else None


def _devices(run: Run) -> int | None:
    """Processes, where the configuration says how many."""
    asked, nodes = run.config.get("trainer.devices", "auto"), run.config.get("trainer.num_nodes", 1)
    if asked == "auto" and run.config.get("trainer.accelerator") == "cpu":
        asked = 1
    if isinstance(asked, list):
        asked = len(asked)
    return int(asked) * int(nodes) if str(asked).isdigit() and str(nodes).isdigit() else None
