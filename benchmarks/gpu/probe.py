"""What a training step on a GPU does that its losses do not show: waits for the device, loss scales, skipped steps."""

import json
import math
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

CHECKOUT = Path(__file__).resolve().parents[2]
FIRST_SCALE = 2.0**16
WATCHED = range(11, 14)
"""Steps whose waits are counted: after the first, and none of which is logged."""


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return Path(frame.filename).is_relative_to(CHECKOUT) and "site-packages" not in frame.filename


class Probe(Callback):
    """Write what it saw to a file of JSON when the fit ends.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.losses: list[Any] = []
        self.waits: Counter[str] = Counter()
        self.kept: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count waits from here to the start of a later step: the loop, the data and all callbacks are in it."""
        if pl_module.device.type != "cuda":
            return
        if batch_idx == WATCHED.start:
            self.kept = warnings.catch_warnings()
            self.kept.__enter__()
            warnings.simplefilter("always")
            warnings.showwarning = self._note
            torch.cuda.set_sync_debug_mode("warn")
        elif batch_idx == WATCHED.stop:
            self._leave()

    def _leave(self) -> None:
        if self.kept is not None:
            torch.cuda.set_sync_debug_mode("default")
            self.kept.__exit__(None, None, None)
            self.kept = None

    def _note(self, message: Any, *arguments: Any) -> None:
        if "synchroniz" not in str(message):
            return
        beside = (Path(__file__).name, "warnings.py")
        stack = [frame for frame in traceback.extract_stack() if Path(frame.filename).name not in beside]
        ours = [frame for frame in stack if _is_ours(frame)][-1:]
        inside = stack[-3:] if not ours or ours[0] is not stack[-1] else []  # the library's lines that waited
        self.waits[" < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in (*reversed(inside), *ours))] += 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss, on the device."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, torch.Tensor):
            self.losses.append(loss.detach().float().clone())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Count no more."""
        self._leave()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it down."""
        self._leave()
        scalers = list(getattr(pl_module, "_scalers", {}).values())
        scalers = scalers or [s for s in [getattr(trainer.precision_plugin, "scaler", None)] if s is not None]
        scales = [float(scaler.get_scale()) for scaler in scalers]
        losses = [float(loss) for loss in self.losses]
        content = {
            "steps": trainer.global_step,
            "losses": [str(loss) if not math.isfinite(loss) else loss for loss in losses],
            "scales": scales,
            "skipped": [round(math.log2(FIRST_SCALE / scale)) if scale else None for scale in scales],
            "waits_per_step": sum(self.waits.values()) / len(WATCHED),
            "waits_at": dict(self.waits.most_common(8)),
        }
        self.path.write_text(json.dumps(content))
