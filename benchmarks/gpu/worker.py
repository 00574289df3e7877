"""A process that runs stages: it imports, then waits for names of stages on stdin; all that it finds are rows.

``python -m benchmarks.gpu.worker ROWS SCRATCH DEVICE DRY DEADLINE STAGE…`` imports the modules of those stages. A stage
has ended when its row ``END`` is there.
"""

import importlib
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.gpu.record import Context
from benchmarks.gpu.stages import Stage, chosen

END = "end of stage"


def main(rows: str, scratch: str, device: str, dry: str, deadline: str, *names: str) -> None:
    """Serve stages until stdin ends."""
    modules: dict[str, Any] = {}
    for name in names:
        try:
            modules[name] = importlib.import_module(f"benchmarks.gpu.{name.partition('.')[0]}")
        except Exception as error:  # a row when the stage is asked for
            modules[name] = error
    import torch

    warnings.filterwarnings("ignore", category=FutureWarning)
    for line in sys.stdin:
        [stage] = chosen("all", line.strip())
        folder = Path(scratch) / stage.name
        folder.mkdir(parents=True, exist_ok=True)
        context = Context(Path(rows), folder, torch.device(device), dry == "dry", float(deadline))
        serve(context, stage, modules[stage.name])
        shutil.rmtree(folder, ignore_errors=True)


def serve(context: Context, stage: Stage, module: Any) -> None:
    """Run one stage; what it lets through is a failed row, and so is that it wrote none."""
    start, before = time.perf_counter(), _written(context, stage)
    with context.check(stage.module, f"whole {stage.part or 'stage'}"):
        if isinstance(module, Exception):
            raise module
        module.run(context, *([stage.part] if stage.part else []))
        assert _written(context, stage) > before, "the stage wrote no row"
    context.row(stage.name, END, seconds=time.perf_counter() - start)


def _written(context: Context, stage: Stage) -> int:
    """Rows of this stage so far."""
    mark = f'"stage": "{stage.module}"'
    return context.rows.read_text().count(mark) if context.rows.exists() else 0


if __name__ == "__main__":
    main(*sys.argv[1:])
