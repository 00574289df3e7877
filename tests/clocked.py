"""A small method, its data and a trainer, on a clock that a test moves."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tiny
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from tenshot.callbacks import Throughput
from tenshot.callbacks.throughput import WARM_UP
from tenshot.run import RunLog


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stream(IterableDataset[dict[str, Tensor]]):
    """Batches without end, each of which takes so long to come."""

    def __init__(self, batch: int, wait: Any) -> None:
        self.batch, self.wait = batch, wait

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            self.wait()
            yield {"image": torch.zeros(self.batch, 2, 8, 8)}


class Data(LightningDataModule):
    def __init__(self, batch: int = 4, wait: Any = lambda: None) -> None:
        super().__init__()
        self.batch, self.wait = batch, wait

    def train_dataloader(self) -> Any:
        return DataLoader(Stream(self.batch, self.wait), batch_size=None)

    def val_dataloader(self) -> Any:
        return DataLoader([{"image": torch.zeros(1, 2, 8, 8)}], batch_size=None)


class Net(LightningModule):
    """A convolution, a filter that is not trained, and a matrix product; validation takes its time."""

    def __init__(self, work: Any = lambda step: None, validation: Any = lambda: None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.frozen = nn.Conv2d(3, 3, 4, groups=3).requires_grad_(False)
        self.linear = nn.Linear(3 * 5 * 5, 7)
        self.work, self.validation = work, validation

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.work(self.global_step)
        loss: Tensor = self.linear(self.frozen(self.conv(batch["image"])).flatten(1)).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.validation()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


CONV = 2 * 8 * 8 * 3 * 2 * 9  # multiplications and additions, of one image
FROZEN = 2 * 5 * 5 * 3 * 16
LINEAR = 2 * 75 * 7
OPERATIONS = (CONV + FROZEN + LINEAR) + (CONV + FROZEN + 2 * LINEAR)
"""Forward; backward: the convolution needs no gradient of its input, the filter none of its weights."""


def fit(folder: Path, module: LightningModule, data: Any, steps: int, *callbacks: Callback, **more: Any) -> Trainer:
    resume = more.pop("resume", None)
    trainer = tiny.trainer(
        folder, steps, *callbacks, **({"logger": RunLog(folder), "log_every_n_steps": 1} | more)
    )  # fmt: skip
    trainer.callbacks.sort(key=lambda callback: not isinstance(callback, Throughput))  # type: ignore[attr-defined]
    trainer.fit(module, data, ckpt_path=resume)
    return trainer


def column(folder: Path, name: str) -> dict[int, float]:
    """Step of the row -> the value."""
    with open(folder / "logs" / "version_0" / "metrics.csv", newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row.get(name)}


def seconds(clock: Clock, step: float = 0.25, data: float = 0.0, first: float = 60.0) -> tuple[Net, Any]:
    """A method whose steps take so long, the first ones longer, and what its batches wait for."""

    def work(at: int) -> None:
        clock.now += first if at < WARM_UP else step

    def wait() -> None:
        clock.now += data

    return Net(work), wait
