import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tenshot.callbacks import EMA, SampleGrid, StepCheckpoint
from tenshot.callbacks import ema as ema_module
from tenshot.callbacks.ema import averaged
from tenshot.errors import InputError


class Walk(LightningModule):
    """A method whose weight after optimiser step n is 7 - n (each step one unit of plain gradient descent)."""

    averaged = ("net",)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.BatchNorm1d(1)  # a weight, and buffers that are not trained
        self.frozen = nn.Linear(1, 1)
        nn.init.constant_(self.net.weight, 7)
        self.used: dict[str, list[float]] = {"fit": [], "validate": [], "test": [], "predict": []}

    def note(self, stage: str) -> None:
        self.used[stage].append(self.net.weight.item())

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.note("fit")
        self.net.running_mean += 1
        self.net.num_batches_tracked += 1
        return self.net.weight.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.note("validate")

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.note("test")

    def predict_step(self, batch: Tensor, batch_idx: int) -> None:
        self.note("predict")

    def sample(self, seeds: Tensor, condition: Tensor | None = None, preview: bool = False) -> Tensor:
        return (self.net.weight / 100).expand(len(seeds), 3, 2, 2)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.net.weight], lr=1.0)


def data() -> DataLoader[Tensor]:
    return DataLoader(torch.zeros(100, 1))


def walk(folder: Path, steps: int, ema: EMA, *callbacks: Callback, **arguments: Any) -> tuple[Walk, Trainer]:
    module, trainer = Walk(), tiny.trainer(folder, steps, *callbacks, ema=ema, **arguments)
    trainer.fit(module, data())
    return module, trainer


def plain_average(decay: float, steps: int, warmup: bool = True) -> float:
    average = np.float64(7)
    for n in range(steps):
        d = min(decay, (1 + n) / (10 + n)) if warmup else decay
        average = d * average + (1 - d) * (7 - (n + 1))
    return float(average)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_average_follows_the_formula_with_warm_up(tmp_path: Path, decay: float):
    ema = EMA(decay)
    module, _ = walk(tmp_path, 30, ema)

    assert module.net.weight.item() == -23
    assert ema.average["net"]["weight"].item() == pytest.approx(plain_average(decay, 30), rel=1e-6)
    assert ema.updates == 30


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_without_warm_up_the_decay_is_the_same_from_the_first_step(tmp_path: Path, decay: float):
    ema = EMA(decay, warmup=False)
    walk(tmp_path, 30, ema)

    assert ema.average["net"]["weight"].item() == pytest.approx(plain_average(decay, 30, warmup=False), rel=1e-6)


@pytest.mark.parametrize("began", [True, False])
def test_a_resumed_average_goes_on_as_it_began(tmp_path: Path, caplog: pytest.LogCaptureFixture, began: bool):
    """With the warm-up that older checkpoints do not speak of, or without."""
    walk(tmp_path, 4, EMA(0.9, warmup=began), StepCheckpoint(every_n_steps=4))
    path = tmp_path / "checkpoints" / "step=00000004.ckpt"
    content = torch.load(path, weights_only=True)
    if began:
        del content["ema"]["warmup"]
        torch.save(content, path)

    ema = EMA(0.9, warmup=not began)
    tiny.trainer(tmp_path, 9, ema=ema).fit(Walk(), data(), ckpt_path=path)
    assert ema.average["net"]["weight"].item() == pytest.approx(plain_average(0.9, 9, began), rel=1e-6)
    assert f"the average goes on as the run began, with --ema.warmup {str(began).lower()}" in caplog.text


def test_it_counts_optimiser_steps_not_micro_batches(tmp_path: Path):
    ema = EMA(0.9)
    module, _ = walk(tmp_path, 10, ema, accumulate_grad_batches=3)

    assert len(module.used["fit"]) == 30
    assert ema.updates == 10
    assert ema.average["net"]["weight"].item() == pytest.approx(plain_average(0.9, 10), rel=1e-6)


def test_buffers_are_copied_and_other_networks_left_alone(tmp_path: Path):
    ema = EMA(0.9)
    module, _ = walk(tmp_path, 5, ema)

    assert ema.average.keys() == {"net"}
    assert ema.average["net"]["running_mean"].item() == module.net.running_mean.item() == 5
    assert ema.average["net"]["num_batches_tracked"].item() == 5


def test_evaluation_uses_the_average_and_training_goes_on_with_the_raw_weights(tmp_path: Path):
    ema = EMA(0.9)
    module, trainer = (
        Walk(),
        tiny.trainer(tmp_path, 6, ema=ema, val_check_interval=2, check_val_every_n_epoch=None, limit_val_batches=1),
    )
    trainer.fit(module, data(), data())

    assert module.used["fit"] == [7, 6, 5, 4, 3, 2]
    assert module.used["validate"] == pytest.approx([plain_average(0.9, n) for n in (2, 4, 6)], rel=1e-6)
    for stage, run in (("test", trainer.test), ("predict", trainer.predict), ("validate", trainer.validate)):
        run(module, data(), verbose=False) if stage != "predict" else run(module, data())
        assert module.used[stage][-1] == pytest.approx(plain_average(0.9, 6), rel=1e-6)
        assert module.net.weight.item() == 1


def test_raw_evaluation_uses_the_raw_weights(tmp_path: Path):
    module, trainer = walk(tmp_path, 4, EMA(0.9, evaluate="raw"))
    trainer.test(module, data(), verbose=False)

    assert set(module.used["test"]) == {3}


def test_the_checkpoint_holds_both_and_restores_both(tmp_path: Path):
    first = EMA(0.9)
    walk(tmp_path, 4, first, StepCheckpoint(every_n_steps=4))
    path = tmp_path / "checkpoints" / "step=00000004.ckpt"
    content = torch.load(path, weights_only=True)

    assert content["state_dict"]["net.weight"].item() == 3
    assert content["ema"]["weights"]["net"]["weight"].item() == pytest.approx(plain_average(0.9, 4), rel=1e-6)
    assert content["ema"]["updates"] == 4
    assert content["ema"]["weights"].keys() == {"net"}

    second, module = EMA(0.9), Walk()
    tiny.trainer(tmp_path, 9, ema=second).fit(module, data(), ckpt_path=path)
    assert module.used["fit"] == [3, 2, 1, 0, -1]
    assert second.average["net"]["weight"].item() == pytest.approx(plain_average(0.9, 9), rel=1e-6)

    third = EMA()  # a test command that says nothing of the average gets that of the checkpoint
    module = Walk()
    trainer = tiny.trainer(tmp_path, 1, ema=third)
    trainer.test(module, data(), ckpt_path=path, verbose=False)
    assert module.used["test"][0] == pytest.approx(plain_average(0.9, 4), rel=1e-6)
    assert third.weights_used(trainer, module) == "weights: average over 4 updates (decay 0.9)"


def test_decay_0_turns_it_off(tmp_path: Path):
    ema = EMA(0)
    module, trainer = walk(tmp_path, 3, ema, StepCheckpoint())
    trainer.test(module, data(), verbose=False)

    assert not ema.average
    assert set(module.used["test"]) == {4}
    assert "ema" not in torch.load(tmp_path / "checkpoints" / "step=00000003.ckpt", weights_only=True)
    assert ema.weights_used(trainer, module) == "weights: raw (there is no average)"


def test_grids_show_the_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(
        SampleGrid, "_publish", lambda self, trainer, samples, step: seen.append(samples[0, 0, 0, 0].item())
    )
    module, _ = walk(tmp_path, 4, EMA(0.9), SampleGrid(every_n_steps=2, count=1))

    assert seen == pytest.approx([plain_average(0.9, n) / 100 for n in (2, 4)], rel=1e-6)
    assert module.used["fit"] == [7, 6, 5, 4]


def test_applied_inside_an_evaluation_changes_nothing(tmp_path: Path):
    inside: list[float] = []

    class Look(Callback):
        def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
            with averaged(trainer, pl_module):
                inside.append(pl_module.net.weight.item())

    module, trainer = walk(tmp_path, 3, EMA(0.9), Look())
    trainer.validate(module, data(), verbose=False)

    assert set(inside) == {module.used["validate"][0]}
    assert module.net.weight.item() == 4


def test_the_raw_weights_come_back_after_an_error(tmp_path: Path):
    ema = EMA(0.9)
    module, _ = walk(tmp_path, 3, ema)

    with pytest.raises(RuntimeError, match="in the middle"), ema.applied(module):  # noqa: PT012
        assert module.net.weight.item() == pytest.approx(plain_average(0.9, 3))
        raise RuntimeError("in the middle")
    assert module.net.weight.item() == 4


@pytest.mark.parametrize("decay", [1.0, -0.1, math.nan])
def test_a_decay_that_cannot_be_is_refused(decay: float):
    with pytest.raises(InputError, match=r"ema\.decay is .*choose a number in \[0, 1\)"):
        EMA(decay)


def test_an_average_that_a_first_validation_moved_can_still_be_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A resumed run that validates first moves the average of its checkpoint to the GPU in inference mode."""
    walk(tmp_path, 4, EMA(0.9), StepCheckpoint(every_n_steps=4))
    move = ema_module.sharded_like
    monkeypatch.setattr(ema_module, "sharded_like", lambda value, like: move(value, like).clone())

    class ValidateFirst(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            with torch.inference_mode(), averaged(trainer, pl_module):
                pl_module.note("validate")

    ema, module = EMA(0.9), Walk()
    trainer = tiny.trainer(tmp_path, 6, ValidateFirst(), ema=ema)
    trainer.fit(module, data(), ckpt_path=tmp_path / "checkpoints" / "step=00000004.ckpt")
    assert module.used["validate"] == pytest.approx([plain_average(0.9, 4)], rel=1e-6)
    assert ema.average["net"]["weight"].item() == pytest.approx(plain_average(0.9, 6), rel=1e-6)
