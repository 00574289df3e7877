"""The log of a resumed run goes on as if it had not been stopped."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from tenshot.run.run_log import SPEEDS

__all__ = ["ResumeLoggedMetrics"]


class ResumeLoggedMetrics(Callback):
    """Keep in checkpoints what was logged last, and begin a resumed run with it.

    What a method logs only at some steps, as GANs do their lazy penalties, Lightning repeats in every row until it is
    logged again. Without this a resumed run would have nothing to repeat. Speeds are those of an attempt, and not kept.
    """

    def __init__(self) -> None:
        self._kept: dict[str, float] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Log what a checkpoint brought, before the method logs anything."""
        pl_module.log_dict(self._kept)
        self._kept = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what would be in a row now."""
        results = trainer.fit_loop.epoch_loop._results.metrics(on_step=True)["log"]
        logged = {name: float(value) for name, value in results.items() if name not in SPEEDS}
        checkpoint["logged"] = trainer.strategy.broadcast(logged)  # rank 0 has the log; others may name other values

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Begin with it."""
        self._kept = checkpoint.get("logged", {})
