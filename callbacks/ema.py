"""Exponential moving average of a method's networks, one mechanism for all methods."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from tenshot.distributed.sharding import exchange, gathered, local, sharded_like
from tenshot.distributed.trainer_attributes import callback_of
from tenshot.errors import InputError, check_range

__all__ = ["EMA", "averaged"]


class EMA(Callback):
    """Average the submodules that a method names in ``averaged``, and evaluate with the average.

    It starts from the first weights, or from the averaged ones of the file that a method starts from. Buffers are
    copied; weights that are frozen when training begins have no average. Validation, test, predict and sample grids use
    the averaged weights; the checkpoint holds both.

    Args:
        decay: Share of the average that a step keeps, so that ln 2 / (1 - decay) steps renew half of it: 693 at 0.999,
            6931 at 0.9999. 0 turns averaging off.
        half_life: Images after which half of the average is new, whatever the batch and the number of ranks; takes
            the place of decay. StyleGAN2: 10000.
        evaluate: Which weights evaluation uses.
        warmup: Keep a share of min(decay, (1 + n) / (10 + n)) at update n, so that the first weights are soon
            forgotten: the average is then over about the last ninth of the steps, until the decay is reached, 0.999 at
            update 8990, 0.9999 at 89,990. Published numbers are without. A resumed run goes on as it began.
    """

    def __init__(
        self,
        decay: float = 0.999,
        half_life: int | None = None,
        evaluate: Literal["ema", "raw"] = "ema",
        warmup: bool = True,
    ) -> None:
        check_range("ema.decay", decay, 0, 1, below=True)
        if half_life is not None:
            check_range("ema.half_life", half_life, 1)
        self.decay, self.half_life, self.evaluate, self.warmup = decay, half_life, evaluate, warmup
        self.updates = 0
        self.average: dict[str, dict[str, Tensor]] = {}  # submodule -> parameter or buffer -> its average
        self._seen_step = -1
        self._applied = False

    def _networks(self, pl_module: LightningModule) -> dict[str, nn.Module]:
        names: Sequence[str] = getattr(pl_module, "averaged", ())
        return {name: pl_module.get_submodule(name) for name in names}

    def _pairs(self, pl_module: LightningModule) -> list[tuple[Tensor, Tensor]]:
        """(weight, its average) of every network, the averages brought to where their weights are."""
        pairs = []
        for name, network in self._networks(pl_module).items():
            average = self.average[name]
            for key, value in network.state_dict(keep_vars=True).items():
                if key not in average:
                    continue
                with torch.inference_mode(False):  # what validation moves, training is to change
                    average[key] = sharded_like(average[key], value)
                pairs.append((value, average[key]))
        return pairs

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the weights that the method starts from, unless a checkpoint brought an average."""
        if self.half_life is not None:
            batch = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
            if batch is None:
                raise InputError(
                    "--ema.half_life counts images, but the data do not tell their batch_size: set --ema.decay"
                )
            images = batch * trainer.world_size * trainer.accumulate_grad_batches
            self.decay = 0.5 ** (images / self.half_life)
        if self.decay and not self.average:
            first: Mapping[str, Mapping[str, Tensor]] = getattr(pl_module, "first_averages", {})
            self.average = {
                name: {
                    key: first.get(name, {}).get(key, value).detach().clone().to(value.dtype)
                    for key, value in network.state_dict(keep_vars=True).items()
                    if value.requires_grad or not isinstance(value, nn.Parameter)
                }
                for name, network in self._networks(pl_module).items()
            }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here: only now does the trainer know the step of a resumed run."""
        self._seen_step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the average towards the weights, once an optimiser step."""
        if not self.average or trainer.global_step == self._seen_step:
            return
        self._seen_step = trainer.global_step
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        self.updates += 1
        pairs = self._pairs(pl_module)
        moving = [pair for pair in pairs if isinstance(pair[0], nn.Parameter)]
        averages, weights = ([local(pair[side]) for pair in moving] for side in (1, 0))
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for value, average in pairs:
            if not isinstance(value, nn.Parameter):
                average.copy_(value)

    @contextmanager
    def applied(self, pl_module: LightningModule) -> Iterator[None]:
        """Exchange the weights for their averages inside the block."""
        if self._applied or self.evaluate == "raw" or not self.average:
            yield
            return
        self._exchange(pl_module)
        try:
            yield
        finally:
            self._exchange(pl_module)

    def _exchange(self, pl_module: LightningModule) -> None:
        for value, average in self._pairs(pl_module):
            exchange(value, average)
        self._applied = not self._applied

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the averaged weights."""
        self._begin(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the raw ones."""
        self._finish(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Test the averaged weights."""
        rank_zero_info(self.weights_used(trainer, pl_module))
        self._begin(pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the raw ones back."""
        self._finish(pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw from the averaged weights."""
        rank_zero_info(self.weights_used(trainer, pl_module))
        self._begin(pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the raw ones back."""
        self._finish(pl_module)

    def _begin(self, pl_module: LightningModule) -> None:
        if self.average and self.evaluate == "ema":
            self._exchange(pl_module)

    def _finish(self, pl_module: LightningModule) -> None:
        if self._applied:
            self._exchange(pl_module)

    def weights_used(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """Which weights evaluation uses, in words."""
        if self.average and self.evaluate == "ema":
            return f"weights: average over {self.updates} updates (decay {self.decay:.6g})"
        origin = getattr(pl_module, "weights_origin", None)
        if origin is not None and not trainer.training and trainer.ckpt_path is None:  # drawn from as they were read
            return f"weights: {origin}"
        return "weights: raw" + ("" if self.average else " (there is no average)")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the average beside the raw weights, with the names of what has none, since it was not trained."""
        if self.average:
            networks = self._networks(pl_module).items()
            frozen = {
                name: [key for key in network.state_dict() if key not in self.average[name]]
                for name, network in networks
            }
            checkpoint["ema"] = {
                "decay": self.decay, "updates": self.updates, "weights": self.average, "warmup": self.warmup,
                "frozen": frozen,
            }  # fmt: skip

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the average of a checkpoint; for fit, test and predict alike."""
        if "ema" in checkpoint and (self.decay or not trainer.training):
            self.updates = checkpoint["ema"]["updates"]
            self.average = {name: dict(weights) for name, weights in checkpoint["ema"]["weights"].items()}
            if not trainer.training:
                self.decay = checkpoint["ema"]["decay"]
            began = checkpoint["ema"].get("warmup", True)  # which all had that do not say
            if trainer.training and began != self.warmup:
                rank_zero_info(f"the average goes on as the run began, with --ema.warmup {str(began).lower()}")
            self.warmup = began


@contextmanager
def averaged(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """The trainer's EMA, if it has one, applied to the module, for drawing: every rank may draw as many as it likes."""
    ema = callback_of(trainer, EMA)
    with ema.applied(pl_module) if ema is not None else nullcontext(), gathered(pl_module):
        yield
