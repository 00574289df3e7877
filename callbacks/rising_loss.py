"""Say that training has gone wrong where its loss is a number still, but has risen and stays up."""

import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tenshot.callbacks.nan_guard import learning_rates

__all__ = ["RisingLoss"]

WINDOW = 100
"""Micro-batches whose losses are averaged: one timestep's loss is a hundred times another's."""
TIMES = 3.0
"""A window's mean is high above so many times the lowest one's."""
STAYS = 3
"""Windows in a row."""


class RisingLoss(Callback):
    """Warn once where a denoiser's or a classifier's loss was much lower once: its learning rate is too high.

    Such a network seldom comes back, and its loss stays finite. Looked at is ``train/mse`` where the method logs it,
    since terms of an adaptation rise from zero, else the loss; losses of two players rise and fall and say nothing.
    The device is waited for once a window.
    """

    def __init__(self) -> None:
        self._sum: Tensor | float = 0.0
        self._count, self._high = 0, 0
        self._lowest, self._warned = math.inf, False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a loss; look at a window once it is whole."""
        if self._warned or not pl_module.automatic_optimization:
            return
        losses = outputs if isinstance(outputs, Mapping) else {"loss": outputs}
        loss = trainer.callback_metrics.get("train/mse", losses.get("loss"))
        if loss is None:
            return
        self._sum = self._sum + loss.detach()
        self._count += 1
        if self._count == WINDOW:
            self._look(trainer, float(self._sum) / WINDOW)
            self._sum, self._count = 0.0, 0

    def _look(self, trainer: Trainer, mean: float) -> None:
        self._high = self._high + 1 if mean > TIMES * self._lowest else 0
        self._lowest = min(self._lowest, mean)
        if self._high == STAYS:
            self._warned = True
            rank_zero_warn(
                f"step {trainer.global_step}: the loss was {self._lowest:.3g} once and stays at {mean:.3g}: training "
                f"has probably diverged. Go on from an earlier checkpoint with a lower learning rate "
                f"({learning_rates(trainer.lightning_module)}), or with --trainer.gradient_clip_val 1"
            )

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far."""
        seen = {"sum": float(self._sum), "count": self._count, "high": self._high}
        return seen | {"lowest": self._lowest, "warned": self._warned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from it."""
        self._sum, self._count, self._high = state["sum"], state["count"], state["high"]
        self._lowest, self._warned = state["lowest"], state["warned"]
