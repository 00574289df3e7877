"""Speed and cost: against closed forms and a clock that the test moves.

With an argument, this file is a rank of two that write their log there.
"""

import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from tenshot.callbacks import RunLog, SampleGrid, StepCheckpoint, Throughput
from tenshot.callbacks import throughput as module_of_throughput
from tenshot.callbacks.operations import Operations
from tenshot.callbacks.throughput import WARM_UP, paused
from tenshot.lightning_modules.stylegan2 import Regularization
from tenshot.models.stylegan2.conv import conv2d
from tenshot.models.stylegan2.fir import fir_resample


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module_of_throughput, "monotonic", clock)
    return clock


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


CONV = 2 * 8 * 8 * 3 * 2 * 9  # multiplications and additions, of one picture
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


# Operations


def test_operations_are_those_of_the_closed_form(tmp_path: Path):
    throughput = Throughput()
    fit(tmp_path, Net(), Data(4), 1, throughput)
    assert throughput.operations == {(): OPERATIONS}


def test_operations_of_all_micro_batches_are_counted_and_those_of_other_callbacks_are_not(tmp_path: Path):
    class Busy(Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            torch.ones(64, 64) @ torch.ones(64, 64)

    throughput = Throughput()
    fit(tmp_path, Net(), Data(4), 2, throughput, Busy(), accumulate_grad_batches=3)
    assert throughput.operations == {(): OPERATIONS}


def test_our_own_functions_are_seen_through():
    """Norm, activation and convolution of a U-Net are one Function, as are the convolutions and filters of a GAN."""
    module = tiny.randomised(tiny.ddpm())
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 5])
    sizes: list[int] = []
    for layer in module.unet.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda own, _, out: sizes.append(2 * out.numel() * own.weight[0].numel()))
    with torch.no_grad(), Operations() as plain:
        module.unet(x, t)
    assert 0.9 < sum(sizes) / plain.count < 1  # the rest is attention, and the embedding of timesteps
    with Operations() as forward:
        loss = module.unet(x, t).square().mean()
    with Operations() as backward:
        loss.backward()
    assert forward.count == plain.count
    assert 1.9 < backward.count / forward.count < 2.4  # more than 2 where gradients are products that hold borders

    counts = []
    for convolve in (conv2d, nn.functional.conv2d):
        maps, weight = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(5, 3, 3, 3, requires_grad=True)
        with Operations() as operations:
            convolve(maps, weight, padding=1).square().sum().backward()
        counts.append(operations.count)
    assert counts == [3 * 2 * (2 * 5 * 8 * 8) * (3 * 9)] * 2
    with Operations() as filtering:
        fir_resample(maps, torch.ones(4), padding=(2, 1)).square().sum().backward()
    assert filtering.count == 2 * (2 * (2 * 3 * 8 * 8) * 16)


def test_lazy_penalties_of_a_gan_are_counted_where_they_fall(tmp_path: Path, clock: Clock):
    """One step of each kind is counted; a row tells of the kinds of its own steps."""
    throughput = Throughput()
    module = tiny.gan(regularization=Regularization(r1_every=9, path_length_every=3))

    class Second(Callback):
        def on_train_batch_start(self, *arguments: Any) -> None:
            clock.now += 1

    fit(tmp_path, module, tiny.faces(image_size=32), 7, throughput, Second(), log_every_n_steps=7)
    kinds = throughput.operations
    assert set(kinds) == {(True, True), (False, True), (False, False)}
    assert kinds[True, True] > kinds[False, True] > kinds[False, False] > 0
    # of seven steps three are warm-up, the fourth is counted and so not timed, and the last has a path length
    expected = 4 * (2 * kinds[False, False] + kinds[False, True]) / 3 / 1e12
    assert column(tmp_path, "speed/model_tflops") == {6: pytest.approx(expected)}
    assert column(tmp_path, "speed/steps_per_second") == {6: pytest.approx(1)}


def test_training_is_the_same_to_the_last_bit(tmp_path: Path):
    def weights(*callbacks: Callback) -> dict[str, Tensor]:
        torch.manual_seed(0)
        gan = tiny.gan()
        fit(tmp_path, gan, tiny.faces(image_size=32), 2, *callbacks, logger=False)
        torch.manual_seed(0)
        ddpm = tiny.ddpm(unet=tiny.unet_config(dropout=0.3))
        fit(tmp_path, ddpm, tiny.faces(), 2, *callbacks, logger=False)
        return {**gan.state_dict(), **ddpm.state_dict()}

    tiny.assert_same(weights(Throughput()), weights())


def test_a_step_that_fails_is_no_longer_counted(tmp_path: Path):
    def fail(step: int) -> None:
        raise RuntimeError("broken")

    throughput = Throughput()
    with pytest.raises(RuntimeError, match="broken"):
        fit(tmp_path, Net(fail), Data(), 1, throughput)
    with Operations() as mine:
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert mine.count == 2 * 2 * 3 * 4
    assert throughput._counter is None


# Speed


def seconds(clock: Clock, step: float = 0.25, data: float = 0.0, first: float = 60.0) -> tuple[Net, Any]:
    """A method whose steps take so long, the first ones longer, and what its batches wait for."""

    def work(at: int) -> None:
        clock.now += first if at < WARM_UP else step

    def wait() -> None:
        clock.now += data

    return Net(work), wait


@pytest.mark.parametrize("every", [1, 2, 5])
def test_speeds_do_not_depend_on_how_often_they_are_logged_and_know_no_warm_up(
    tmp_path: Path, clock: Clock, every: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module_of_throughput, "get_available_flops", lambda device, dtype: 1e6)
    module, wait = seconds(clock, step=0.2, data=0.05)
    fit(tmp_path, module, Data(6, wait), 20, Throughput(), log_every_n_steps=every)
    expected = {
        "pictures_per_second": 6 / 0.25, "steps_per_second": 4.0, "data_wait": 0.2,
        "model_tflops": 4 * 6 * OPERATIONS / 1e12, "mfu": 4 * 6 * OPERATIONS / 1e6,
    }  # fmt: skip
    for name, value in expected.items():
        logged = column(tmp_path, f"speed/{name}")
        assert list(logged) == [step for step in range(WARM_UP, 20) if (step + 1) % every == 0]
        assert list(logged.values()) == pytest.approx([value] * len(logged)), name


def test_validation_checkpoints_grids_and_what_is_said_to_be_a_pause_are_left_out(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    class Slow(Callback):
        """Of the user's: in a pause, or not."""

        def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
            if trainer.global_step == 6:
                with paused(trainer):
                    clock.now += 500
            if trainer.global_step == 12:
                clock.now += 1

    module, wait = seconds(clock)
    module.validation = lambda: setattr(clock, "now", clock.now + 300)
    module.sample = lambda seeds, condition=None, preview=False: wait_for_grid(seeds)  # type: ignore[assignment]

    def wait_for_grid(seeds: Tensor) -> Tensor:
        clock.now += 900
        return torch.zeros(len(seeds), 3, 8, 8)

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *words: (setattr(clock, "now", clock.now + 77), save(*words))[1])
    fit(
        tmp_path, module, Data(4, wait), 16, Throughput(), Slow(), SampleGrid(every_n_steps=5, count=2),
        StepCheckpoint(every_n_steps=7), log_every_n_steps=8, val_check_interval=3, check_val_every_n_epoch=None,
    )  # fmt: skip
    assert len(list((tmp_path / "samples").iterdir())) == 4
    assert clock.now > 1000 + 500 + 5 * 300 + 3 * 900 + 2 * 77
    logged = column(tmp_path, "speed/steps_per_second")
    assert logged[7] == pytest.approx(4)
    assert logged[15] == pytest.approx(8 / (8 * 0.25 + 1))


def test_waiting_for_a_loader_that_sleeps_is_seen(tmp_path: Path):
    slept = 0.03
    steps = WARM_UP + 8
    for name, wait in (("slow", lambda: time.sleep(slept)), ("quick", lambda: None)):
        module = Net(lambda step: time.sleep(slept))
        fit(tmp_path / name, module, Data(4, wait), steps, Throughput(), log_every_n_steps=steps)
    [slow], [quick] = (column(tmp_path / name, "speed/data_wait").values() for name in ("slow", "quick"))
    assert 0.1 < slow < 0.9
    assert quick < slow / 2


def test_the_bar_tells_pace_waiting_and_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from tenshot.callbacks import StepProgress

    fit(
        tmp_path, Net(lambda step: time.sleep(0.002)), Data(), 20, Throughput(), StepProgress(5, lines_every=0.0),
        enable_progress_bar=True,
    )  # fmt: skip
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("training ")]
    assert [line.split()[1] for line in lines] == ["5/20", "10/20", "15/20", "20/20"]
    for line in lines:
        assert "pictures/s  waiting for data " in line
        assert re.search(r" 0:0\d:\d\d left  ", line)
        assert "%" in line


def test_without_it_nothing_is_paused(tmp_path: Path):
    fit(tmp_path, Net(), Data(), 2, StepCheckpoint(1), logger=False)
    assert (tmp_path / "checkpoints" / "step=00000002.ckpt").exists()


# Cost


def test_hours_go_on_over_resumes(tmp_path: Path, clock: Clock):
    module, wait = seconds(clock, step=36, first=36)
    fit(tmp_path, module, Data(4, wait), 4, Throughput(), StepCheckpoint(2))
    clock.now += 1e6  # between two lives nothing is paid for
    module, wait = seconds(clock, step=36, first=36)
    again = Throughput()
    checkpoint = tmp_path / "checkpoints" / "step=00000002.ckpt"  # as if it had been killed after
    fit(tmp_path, module, Data(4, wait), 6, again, StepCheckpoint(2), resume=checkpoint)

    hours = column(tmp_path, "speed/process_hours")
    assert list(hours) == list(range(6))
    assert list(hours.values()) == pytest.approx([0.01 * (step + 1) for step in range(6)])
    assert again.operations == {(): OPERATIONS}


def test_a_resumed_run_counts_no_operations_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fit(tmp_path, Net(), Data(4), 2, Throughput(), StepCheckpoint(2))
    monkeypatch.setattr(module_of_throughput, "Operations", None)
    again = Throughput()
    fit(tmp_path, Net(), Data(4), 4, again, resume=tmp_path / "checkpoints" / "step=00000002.ckpt")
    assert again.operations == {(): OPERATIONS}


def test_a_checkpoint_of_before_there_were_speeds_is_resumed(tmp_path: Path):
    fit(tmp_path, Net(), Data(4), 2, StepCheckpoint(2))
    again = Throughput()
    fit(tmp_path, Net(), Data(4), 4, again, resume=tmp_path / "checkpoints" / "step=00000002.ckpt")
    assert again.operations == {(): OPERATIONS}


def test_two_processes_are_counted_together(tmp_path: Path):
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([*words, str(tmp_path)], env=environment, check=True, timeout=200)

    pictures, steps, hours, tflops = (
        column(tmp_path, f"speed/{name}")
        for name in ("pictures_per_second", "steps_per_second", "process_hours", "model_tflops")
    )
    assert pictures[9] == pytest.approx(2 * 4 / 0.25)
    assert steps[9] == pytest.approx(4)
    assert tflops[9] == pytest.approx(4 * 4 * OPERATIONS / 1e12)  # of a device
    assert hours[9] == pytest.approx(2 * (WARM_UP * 60 + (10 - WARM_UP) * 0.25) / 3600)


def test_it_is_always_on_in_fit_and_the_report_reads_what_it_logs(tenshot: tiny.Run, tmp_path: Path):
    from tenshot.reports import read_run
    from tenshot.reports.cost import cost_of

    changes = {"trainer": {"max_steps": 6, "log_every_n_steps": 2}}
    config = tiny.config_file(tmp_path, changes)
    assert tenshot("fit", "--config", config, "--trainer.default_root_dir", tmp_path / "run").status == 0
    for name in ("pictures_per_second", "steps_per_second", "data_wait", "model_tflops"):
        assert set(column(tmp_path / "run", f"speed/{name}")) == {3, 5}
    assert list(column(tmp_path / "run", "train/loss")) == [1, 3, 5]  # no rows of their own
    cost = cost_of(read_run(tmp_path / "run"))
    assert cost.logged
    assert cost.device_hours == list(column(tmp_path / "run", "speed/process_hours").values())[-1] > 0
    assert cost.rate is not None
    assert cost.rate > 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    module_of_throughput.monotonic = watch = Clock()  # type: ignore[assignment]
    method, waits = seconds(watch)
    log = RunLog(sys.argv[1])
    fit(Path(sys.argv[1]), method, Data(4, waits), 10, Throughput(), devices=2, strategy="ddp", logger=log)
