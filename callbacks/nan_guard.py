"""Stop a run whose loss or weights are no longer numbers, before it overwrites what is good."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tenshot.checkpoints.runs import newest_checkpoint
from tenshot.distributed.end_together import end_together
from tenshot.distributed.sharding import local
from tenshot.run.atomic_io import joined

__all__ = ["NanGuard"]


class NanGuard(Callback):
    """Raise when the loss is NaN or infinite, naming the step; never let such a state be saved.

    Where a training step returns several losses by name (beside ``loss``, their sum), the first bad one is named. The
    loss is watched on the device and read every ``every_n_steps`` steps (each step on a CPU) and before each
    checkpoint, so that no step waits for the host. Before a checkpoint the weights are looked at too: a finite loss may
    have had an infinite gradient. Where it is read, ranks tell each other: what one has found ends all of them.

    Raises:
        InputError: The step of the first bad loss, and the remedies.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps
        self.first_bad: dict[str, Tensor] = {}  # loss: () int64, the step counted from 1, 0 while all is well
        self._step = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the step; the trainer counts it only with the last of the accumulated batches."""
        self._step = trainer.global_step + 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note a bad loss; now and then look at the note."""
        losses = dict(outputs) if isinstance(outputs, Mapping) else {"loss": outputs}
        if len(losses) > 1:
            losses.pop("loss")
        for name, loss in losses.items():
            first = self.first_bad.get(name, torch.zeros((), dtype=torch.int64, device=loss.device))
            bad = ~loss.detach().isfinite() & (first == 0)
            self.first_bad[name] = torch.where(bad, self._step, first)
        if loss.device.type == "cpu" or trainer.global_step % self.every_n_steps == 0:
            self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Look before the state is written."""
        weights = [local(weight.detach()) for weight in pl_module.parameters()]
        good = not weights or bool(torch.stack([weight.isfinite().all() for weight in weights]).all())
        self._check(trainer, good)

    def _check(self, trainer: Trainer, good_weights: bool = True) -> None:
        """To be called by all ranks."""
        found = {name: step for name, first in self.first_bad.items() if (step := int(first))}
        if not trainer.strategy.reduce_boolean_decision(bool(found) or not good_weights, all=False):
            return
        every: list[tuple[dict[str, int], bool]] = [(found, good_weights)] * trainer.world_size
        if trainer.world_size > 1:
            dist.all_gather_object(every, (found, good_weights))
        bad = [(step, name) for losses, _ in every for name, step in losses.items()]
        step, what = trainer.global_step, "the weights"
        if bad:
            step, name = min(bad, key=lambda found: found[0])
            what = "the loss" if name == "loss" else f"the loss {name!r}"
        joined(trainer.strategy.checkpoint_io)  # the message names the last whole checkpoint
        end_together(trainer, _message(trainer, what, step))


def learning_rates(pl_module: LightningModule) -> str:
    """The options of a method's learning rates."""
    optimizers = ("optimizer", "optimizer_g", "optimizer_d")
    named = " or ".join(f"--model.{name}.lr" for name in optimizers if hasattr(pl_module, name))
    return named or "--model.optimizer.lr"


def _message(trainer: Trainer, what: str, step: int) -> str:
    pl_module = trainer.lightning_module
    remedy = f"lower the learning rate ({learning_rates(pl_module)}) or use --trainer.precision 32-true"
    run, start = Path(trainer.default_root_dir), getattr(pl_module, "init_from", None)
    last = newest_checkpoint(run)
    if last is not None:
        return (
            f"{what} became NaN or infinite at step {step}: {remedy}, and go on from {last.name} with --ckpt_path {run}"
        )
    weights = f", or other weights than {start} (--model.init_from)" if start else ""
    return (
        f"{what} became NaN or infinite at step {step}, before the first checkpoint: {remedy}{weights}, and start anew"
    )
