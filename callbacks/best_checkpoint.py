"""``checkpoints/best.ckpt``: the weights whose samples were measured best so far."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from tenshot.checkpoints.uses import kept_if_used
from tenshot.errors import InputError, did_you_mean
from tenshot.run.atomic_io import reported

__all__ = ["BestCheckpoint", "more_is_better"]

BEST = "checkpoints/best.ckpt"


class BestCheckpoint:
    """Keep the checkpoint of the best value, of equal ones the last.

    Before samples have arrived in the domain, a value may stand at its end while they come nearer.

    Args:
        by: Which value, by its name in the table; none: keep nothing.
        condition: What was chosen of the samples' condition: values of other samples do not count.
        patience: How many evaluations since the best one may be worse; none: any number.
    """

    def __init__(self, by: str | None, condition: dict[str, Any] | None, patience: int | None = None) -> None:
        self.by, self.condition, self.patience = by, condition, patience
        self._value: float | None = None
        self._step: int | None = None  # where that value was; older checkpoints do not say
        self._worse = 0  # evaluations since the best one
        self._more_is_better = True

    def check(self, better: Mapping[str, bool | None], features: str) -> None:
        """Find out whether more is better.

        Args:
            better: The same of each value that is computed, by name; None where neither more nor less is.
            features: What it is computed with, after which it is named.

        Raises:
            InputError: No metric computes it, or neither is better.
        """
        if self.by is not None:
            self._more_is_better = more_is_better("--evaluate.keep_best", self.by, better, features)

    def resume(self, trainer: Trainer) -> None:
        """Begin anew where the best one was set aside with later steps. On all ranks."""
        if self.by and not trainer.strategy.broadcast((Path(trainer.default_root_dir) / BEST).exists()):
            self._value, self._step, self._worse = None, None, 0

    @property
    def advice(self) -> str:
        """What serves whom training on does not serve."""
        if self._value is None:
            return (
                "--evaluate.keep_best nearness_gap_… keeps an earlier step, with --evaluate.patience 3 training stops"
            )
        kept = f"{BEST} is the best so far by {self.by}" + ("" if self._step is None else f", of step {self._step}")
        return kept if self.patience else f"{kept}; --evaluate.patience 3 would stop training"

    @property
    def exhausted(self) -> bool:
        """Whether so many evaluations since the best one were worse that training is to stop."""
        return self.patience is not None and self._worse >= self.patience

    def keep(self, trainer: Trainer, values: Mapping[str, float | None]) -> None:
        """Save a checkpoint if no value before was better; without a value, training goes on. On all ranks."""
        value, sign = values[self.by] if self.by else None, 1 if self._more_is_better else -1
        if value is None:
            return
        if self._value is not None and sign * value < sign * self._value:
            self._worse += 1
            return
        self._value, self._step, self._worse = value, trainer.global_step, 0
        said = f"step {trainer.global_step}: best {self.by} so far, {value:.4g}: {BEST}"

        def done(failure: InputError | None) -> None:
            rank_zero_info(f"training goes on without: {failure}" if failure else said)

        path = Path(trainer.default_root_dir, BEST)
        if trainer.is_global_zero:
            kept_if_used(path)
        with reported(trainer.strategy.checkpoint_io, done, later=True):
            trainer.save_checkpoint(path, weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, of what, at which step, and how many were worse since."""
        value = {"best": self._value, "best_step": self._step, "worse": self._worse}
        return value | {"keep_best": self.by, "condition": self.condition}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from it, unless another value counts now, or that of other samples."""
        then = (state.get("keep_best", self.by), state.get("condition"))
        same = then == (self.by, self.condition)
        self._value, self._step = (state["best"], state.get("best_step")) if same else (None, None)
        self._worse = state.get("worse", 0) if same else 0


def more_is_better(option: str, by: str, better: Mapping[str, bool | None], features: str) -> bool:
    """Whether more of a value is better.

    Args:
        option: That names it.
        by: Its name.
        better: The same of each value that is computed, by name; None where neither more nor less is.
        features: What it is computed with, after which it is named.

    Raises:
        InputError: No metric computes it, or neither is better.
    """
    ordered = [name for name, more in better.items() if more is not None]
    if by not in ordered:
        fault = "has no better or worse" if by in better else f"is not computed{did_you_mean(by, ordered)}"
        raise InputError(
            f"{option} {by!r} {fault}: choose one of {', '.join(ordered)}, or other --evaluate.features than {features}"
        )
    return bool(better[by])
