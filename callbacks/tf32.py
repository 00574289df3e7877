"""Where TF32 may be used: in training steps, if at all."""

from contextlib import ExitStack
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from tenshot.models.float32 import float32_products

__all__ = ["TF32"]


class TF32(Callback):
    """Compute float32 products of training steps on GPUs in TF32, and no others.

    Losses of validation, images that are drawn (grids, strips, evaluation, test, predict) and metrics are in full
    float32 wherever they are in float32, so that they do not depend on it. In the order of callbacks it comes before
    all that draw, and after Throughput, which asks what a step is in.

    Args:
        training: Whether training steps are.
    """

    def __init__(self, training: bool = True) -> None:
        self.training = training
        self._run, self._step = ExitStack(), ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin without; say what training steps do."""
        self._run.enter_context(float32_products(tf32=False))
        device = trainer.strategy.root_device
        if stage == "fit" and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
            used = "TF32 (--tf32 false: full float32)" if self.training else "full float32 (--tf32 true: TF32)"
            rank_zero_info(f"float32 products and convolutions of training steps: {used}; all others: full float32")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """With it from here."""
        self._step.enter_context(float32_products(tf32=self.training))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Till here."""
        self._step.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave PyTorch as it was."""
        self._step.close()
        self._run.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave PyTorch as it was."""
        self._run.close()
