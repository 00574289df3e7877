import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from tenshot.callbacks import RisingLoss, StepCheckpoint, rising_loss
from tenshot.checkpoints.runs import newest_checkpoint

LOW, HIGH = [1.0, 3.0], [5.0, 9.0]  # windows of two: 2, and 7 > 3 * 2


class Scripted(LightningModule):
    """Gives these losses, and logs these errors."""

    def __init__(self, losses: Sequence[float], errors: Sequence[float] = (), by_hand: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.losses, self.errors = losses, errors
        self.automatic_optimization = not by_hand

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        step = self.trainer.global_step
        if self.errors:
            self.log("train/mse", torch.tensor(self.errors[step]))
        loss = (self.weight - self.weight.detach()).sum() + self.losses[step]
        if not self.automatic_optimization:
            self.optimizers().step()  # type: ignore[union-attr]
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder):
    """Steps of a module, from its newest checkpoint where there is one; the steps at which it was warned."""
    monkeypatch.setattr(rising_loss, "WINDOW", 2)

    def run(module: Scripted, steps: int) -> list[int]:
        recwarn.clear()
        last = newest_checkpoint(tmp_path)
        tiny.trainer(tmp_path, steps, RisingLoss(), StepCheckpoint(1)).fit(
            module, tiny.faces(), ckpt_path=None if last is None else str(last)
        )
        said = [re.match(r"step (\d+): the loss was 2 once and stays at ", str(each.message)) for each in recwarn]
        return [int(each[1]) for each in said if each]

    return run


def test_a_loss_that_rose_and_stays_is_told_once(fit: Any):
    assert fit(Scripted([*HIGH, *LOW, *HIGH * 5]), 14) == [10]  # what was high from the start has not risen


def test_what_comes_back_has_not_diverged(fit: Any):
    assert fit(Scripted([*LOW, *HIGH, *HIGH, *LOW, *HIGH, *HIGH, 5.0, 6.0]), 14) == []  # the last: 5.5 < 3 * 2


@pytest.mark.parametrize("stop", [3, 6, 7])
def test_a_resumed_run_goes_on_with_what_it_saw(fit: Any, stop: int):
    losses = [*LOW, *HIGH * 5]
    assert fit(Scripted(losses), stop) == []
    assert fit(Scripted(losses), 9) == [8]
    assert fit(Scripted(losses), 12) == []


def test_an_error_counts_before_the_sum_of_losses_and_two_players_do_not(fit: Any):
    high, low = [*LOW, *HIGH * 3], [2.0] * 8
    assert fit(Scripted(high, by_hand=True), 8) == []
    assert fit(Scripted([*low, *high], errors=[*low, *low]), 16) == []


def test_an_error_that_rises_is_told(fit: Any):
    assert fit(Scripted([2.0] * 8, errors=[*LOW, *HIGH * 3]), 8) == [8]
