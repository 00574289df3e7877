from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn

from tenshot.callbacks import StepCheckpoint, StepSeed


class Draws(LightningModule):
    """Notes what it draws in each training and validation step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.train_draws: list[float] = []
        self.val_draws: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.train_draws.append(torch.rand(()).item())
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.val_draws.append(torch.rand(()).item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Disturb(Callback):
    """Draws from the global generator wherever it can."""

    def on_train_batch_end(self, *args: Any) -> None:
        torch.rand(17)

    def on_validation_batch_end(self, *args: Any) -> None:
        torch.rand(3)


def test_other_uses_of_the_generator_change_nothing(tmp_path: Path):
    alone, disturbed = Draws(), Draws()
    tiny.trainer(tmp_path, 6, accumulate_grad_batches=2).fit(alone, tiny.faces())
    tiny.trainer(
        tmp_path, 6, Disturb(), accumulate_grad_batches=2, val_check_interval=2, check_val_every_n_epoch=None
    ).fit(disturbed, tiny.faces(num_val=8))

    assert len(alone.train_draws) == len(set(alone.train_draws)) == 12
    assert disturbed.train_draws == alone.train_draws


def test_a_resumed_run_draws_what_the_whole_one_drew(tmp_path: Path):
    whole, first, rest = Draws(), Draws(), Draws()
    tiny.trainer(tmp_path / "a", 6, accumulate_grad_batches=2).fit(whole, tiny.faces())
    tiny.trainer(tmp_path, 4, StepCheckpoint(), accumulate_grad_batches=2).fit(first, tiny.faces())
    tiny.trainer(tmp_path, 6, accumulate_grad_batches=2).fit(
        rest, tiny.faces(), ckpt_path=tmp_path / "checkpoints" / "step=00000004.ckpt"
    )

    assert first.train_draws + rest.train_draws == whole.train_draws


def test_every_validation_draws_the_same_and_every_batch_of_it_something_else(tmp_path: Path):
    module = Draws()
    tiny.trainer(tmp_path, 4, Disturb(), val_check_interval=2, check_val_every_n_epoch=None).fit(
        module, tiny.faces(num_val=12)
    )

    assert module.val_draws[:3] == module.val_draws[3:]
    assert len(set(module.val_draws)) == 3
    assert not set(module.val_draws) & set(module.train_draws)


def drawn(seed: int | None = 0, step: int = 0, rank: int = 0, micro: int = 0, accumulate: int = 4) -> float:
    trainer = SimpleNamespace(global_rank=rank, accumulate_grad_batches=accumulate, global_step=step)
    StepSeed(seed).on_train_batch_start(trainer, None, None, step * accumulate + micro)  # type: ignore[arg-type]
    return torch.rand(()).item()


def test_seed_step_rank_and_micro_batch_all_count():
    positions = [
        {"seed": seed, "step": step, "rank": rank, "micro": micro}
        for seed in range(3) for step in range(5) for rank in range(3) for micro in range(4)
    ]  # fmt: skip
    draws = [drawn(**position) for position in positions]

    assert len(set(draws)) == len(draws)
    assert [drawn(**position) for position in positions] == draws


def test_without_a_seed_of_its_own_it_takes_that_of_the_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert drawn(None) == drawn(5) != drawn(6)
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert drawn(None) == drawn(0)


def test_seeding_reaches_dropout(tmp_path: Path):
    class Dropped(Draws):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.train_draws.append(float(nn.functional.dropout(torch.arange(64.0), 0.5).sum()))
            return self.weight.sum()

    one, two = Dropped(), Dropped()
    for module in (one, two):
        torch.rand(5 if module is one else 6)
        tiny.trainer(tmp_path, 3).fit(module, tiny.faces())
    assert one.train_draws == two.train_draws
    assert len(set(one.train_draws)) == 3
