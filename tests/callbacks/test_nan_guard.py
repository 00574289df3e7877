import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from tenshot.callbacks import StepCheckpoint
from tenshot.errors import InputError


class Failing(LightningModule):
    """Gives a certain loss, or a certain gradient, in a certain micro-batch, counted from 0; else 1."""

    def __init__(self, micro_batch: int, loss: float = 1.0, gradient: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.micro_batch, self.loss, self.gradient = micro_batch, loss, gradient

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, gradient = (self.loss, self.gradient) if batch_idx == self.micro_batch else (1.0, 1.0)
        return (gradient * (self.weight - self.weight.detach()) + loss).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=10.0)


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("*"))


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_bad_loss_stops_the_run_at_its_step_and_is_never_saved(tmp_path: Path, loss: float):
    advice = r"the loss became NaN or infinite at step 4.*and go on from step=00000003.ckpt with --ckpt_path (\S+)$"
    with pytest.raises(InputError, match=advice) as raised:
        tiny.trainer(tmp_path, 9, StepCheckpoint(every_n_steps=1)).fit(Failing(3, loss), tiny.faces())

    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(str(tmp_path))
    assert checkpoints(tmp_path) == ["step=00000002.ckpt", "step=00000003.ckpt"]


@pytest.mark.parametrize("micro_batch", [2, 3])
def test_every_micro_batch_of_an_accumulation_counts(tmp_path: Path, micro_batch: int):
    with pytest.raises(InputError, match="the loss became NaN or infinite at step 2"):
        tiny.trainer(tmp_path, 4, StepCheckpoint(every_n_steps=1), accumulate_grad_batches=2).fit(
            Failing(micro_batch, math.nan), tiny.faces()
        )

    assert checkpoints(tmp_path) == ["step=00000001.ckpt"]


def test_the_first_micro_batch_of_all_counts_too(tmp_path: Path):
    advice = "the loss became NaN or infinite at step 1, before the first checkpoint: lower.* and start anew$"
    with pytest.raises(InputError, match=advice):
        tiny.trainer(tmp_path, 1, StepCheckpoint(), accumulate_grad_batches=2).fit(Failing(0, math.nan), tiny.faces())

    assert not checkpoints(tmp_path)


def test_weights_that_a_finite_loss_destroyed_are_not_saved(tmp_path: Path):
    module = Failing(2, gradient=3e38)
    with pytest.raises(InputError, match="the weights became NaN or infinite at step 3"):
        tiny.trainer(tmp_path, 3, StepCheckpoint(every_n_steps=1)).fit(module, tiny.faces())

    assert checkpoints(tmp_path) == ["step=00000001.ckpt", "step=00000002.ckpt"]


def test_a_large_loss_is_no_reason_to_stop(tmp_path: Path):
    tiny.trainer(tmp_path, 4, StepCheckpoint()).fit(Failing(1, 1e30), tiny.faces())

    assert checkpoints(tmp_path) == ["step=00000004.ckpt"]
