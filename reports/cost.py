"""What a run cost, as far as its folder tells."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from tenshot.reports.curves import logged
from tenshot.reports.run import Run

__all__ = ["Cost", "cost_of"]

QUICKEST = 200.0
"""Steps a second: no training is faster, so files that say so are copies."""
SECONDS = 120.0
"""That an evaluation's file may be younger than the date in it; a copy is younger."""
HOURS = {"speed/gpu_hours": "GPU", "speed/process_hours": "CPU"}
"""Columns of the log that hold hours by devices -> what devices."""
MEMORY = "speed/peak_memory_gib"
RATES = "speed/images_per_second", "speed/pictures_per_second"
"""By the name of today, and by that of logs made before it."""


@dataclass(frozen=True)
class Cost:
    """Of training, not of drawing and measuring afterwards. What is None was not recorded.

    Args:
        steps: Of the optimiser.
        images: Shown to the networks in all.
        hours: While the run was alive, until the last row of the log; of runs that did not log it, from the start to
            the last checkpoint, with all pauses, by the times of files.
        device_hours: These by devices.
        devices: How many there were.
        device: ``CPU`` or ``GPU``, where that is known.
        rate: Images a second: the median of the log.
        memory: GiB on the GPU of rank 0 at most.
        logged: Whether the hours are from the log.
    """

    steps: int | None
    images: int | None
    hours: float | None
    device_hours: float | None
    devices: int | None
    device: str | None
    rate: float | None
    memory: float | None
    logged: bool


def cost_of(run: Run) -> Cost:
    """Read it off the log, the configuration and the times of files."""
    columns, devices, batch = logged(run), _devices(run), run.config.get("data.batch_size")
    last = [int(line[-1][0]) + 1 for name, line in columns.items() if name.startswith("train/")]
    checkpoints = sorted((run.folder / "checkpoints").glob("step=*.ckpt"))
    steps = int(checkpoints[-1].stem.removeprefix("step=")) if checkpoints else max(last, default=None)
    accumulated = run.config.get("trainer.accumulate_grad_batches", 1)
    images = steps * batch * accumulated * devices if steps and batch and devices else None
    device = {"cpu": "CPU", "gpu": "GPU", "cuda": "GPU"}.get(str(run.config.get("trainer.accelerator", "auto")))
    logs_hours = [(columns[name][-1][1], kind) for name, kind in HOURS.items() if name in columns]
    hours = _hours(run, checkpoints[-1], steps) if checkpoints and steps else None
    device_hours = hours * devices if hours is not None and devices else None
    if logs_hours:
        device_hours, device = logs_hours[0]
        hours = device_hours / devices if devices else None
    rates = [value for name in RATES for _, value in columns.get(name, ())]
    rate = float(np.median(rates)) if rates else None
    memory = max((value for _, value in columns.get(MEMORY, ())), default=None)
    return Cost(steps, images, hours, device_hours, devices, device, rate, memory, bool(logs_hours))


def _hours(run: Run, checkpoint: Path, steps: int) -> float | None:
    """From when the first config.yaml was written to when the checkpoint was; None where they were not made then.

    A copy has new times. It shows where an evaluation is younger than it says, or training too fast.
    """
    for evaluation in (run.folder / "evaluations").glob("*.json"):
        said = datetime.fromisoformat(json.loads(evaluation.read_text())["date"]).timestamp()
        if evaluation.stat().st_mtime - said > SECONDS:
            return None
    begun = min((path.stat().st_mtime for path in run.folder.glob("config*.yaml")), default=None)
    if begun is None:
        return None
    seconds = checkpoint.stat().st_mtime - begun
    return seconds / 3600 if seconds > steps / QUICKEST else None


def _devices(run: Run) -> int | None:
    """Processes, where the configuration says how many."""
    asked, nodes = run.config.get("trainer.devices", "auto"), run.config.get("trainer.num_nodes", 1)
    if asked == "auto" and run.config.get("trainer.accelerator") == "cpu":
        asked = 1
    if isinstance(asked, list):
        asked = len(asked)
    return int(asked) * int(nodes) if str(asked).isdigit() and str(nodes).isdigit() else None
