"""Speed and cost: against closed forms and a clock that the test moves.

With an argument, this file is a rank of two that write their log there.
"""

import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from clocked import OPERATIONS, Clock, Data, Net, column, fit, seconds
from lightning.pytorch import Callback, Trainer
from ranks import run_ranks
from torch import Tensor

from tenshot.callbacks import SampleGrid, StepCheckpoint, StepProgress, Throughput, throughput
from tenshot.callbacks.throughput import WARM_UP, paused
from tenshot.run import RunLog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "monotonic", clock)
    return clock


# Speed


@pytest.mark.parametrize("every", [1, 2, 5])
def test_speeds_do_not_depend_on_how_often_they_are_logged_and_know_no_warm_up(
    tmp_path: Path, clock: Clock, every: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(throughput, "peak_of", lambda device, precision: 1e6)
    module, wait = seconds(clock, step=0.2, data=0.05)
    fit(tmp_path, module, Data(6, wait), 20, Throughput(), log_every_n_steps=every)
    expected = {
        "images_per_second": 6 / 0.25, "steps_per_second": 4.0, "data_wait": 0.2,
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

    save = Trainer.save_checkpoint
    monkeypatch.setattr(
        Trainer, "save_checkpoint", lambda *a, **k: (setattr(clock, "now", clock.now + 77), save(*a, **k))[1]
    )
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
    fit(
        tmp_path, Net(lambda step: time.sleep(0.002)), Data(), 20, Throughput(), StepProgress(5, lines_every=0.0),
        enable_progress_bar=True,
    )  # fmt: skip
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("training ")]
    assert [line.split()[1] for line in lines] == ["5/20", "10/20", "15/20", "20/20"]
    for line in lines:
        assert "images/s  waiting for data " in line
        assert re.search(r" 0:0\d:\d\d left  ", line)
        assert "%" in line


def test_the_bar_tells_the_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    losses: list[float] = []

    class Note(Callback):
        def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *position: Any) -> None:
            losses.append(outputs["loss"].item())

    trainer = tiny.trainer(
        tmp_path, 3, Note(), StepProgress(1, lines_every=0.0), enable_progress_bar=True, val_check_interval=1
    )
    trainer.fit(tiny.ddpm(), tiny.faces(num_val=4))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("training ")]
    assert [re.search(r"train/loss ([\d.]+)", line)[1] for line in lines] == [f"{loss:.4f}" for loss in losses]  # type: ignore[index]
    assert [("val/loss" in line) for line in lines] == [False, True, True]


def test_without_it_nothing_is_paused(tmp_path: Path):
    fit(tmp_path, Net(), Data(), 2, StepCheckpoint(1), logger=False)
    assert (tmp_path / "checkpoints" / "step=00000002.ckpt").exists()


# Cost


def test_hours_go_on_over_resumes(tmp_path: Path, clock: Clock):
    module, wait = seconds(clock, step=36, first=36)
    fit(tmp_path, module, Data(4, wait), 4, Throughput(), StepCheckpoint(2))
    clock.now += 1e6  # between two attempts nothing is paid for
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
    monkeypatch.setattr(throughput, "Operations", None)
    again = Throughput()
    fit(tmp_path, Net(), Data(4), 4, again, resume=tmp_path / "checkpoints" / "step=00000002.ckpt")
    assert again.operations == {(): OPERATIONS}


def test_a_checkpoint_of_before_there_were_speeds_is_resumed(tmp_path: Path):
    fit(tmp_path, Net(), Data(4), 2, StepCheckpoint(2))
    again = Throughput()
    fit(tmp_path, Net(), Data(4), 4, again, resume=tmp_path / "checkpoints" / "step=00000002.ckpt")
    assert again.operations == {(): OPERATIONS}


def test_two_processes_are_counted_together(tmp_path: Path):
    run_ranks(__file__, tmp_path, timeout=200)

    images, steps, hours, tflops = (
        column(tmp_path, f"speed/{name}")
        for name in ("images_per_second", "steps_per_second", "process_hours", "model_tflops")
    )
    assert images[9] == pytest.approx(2 * 4 / 0.25)
    assert steps[9] == pytest.approx(4)
    assert tflops[9] == pytest.approx(4 * 4 * OPERATIONS / 1e12)  # of a device
    assert hours[9] == pytest.approx(2 * (WARM_UP * 60 + (10 - WARM_UP) * 0.25) / 3600)


def test_it_is_always_on_in_fit_and_the_report_reads_what_it_logs(tenshot: tiny.Run, tmp_path: Path):
    from tenshot.reports import read_run
    from tenshot.reports.cost import cost_of

    changes = {"trainer": {"max_steps": 6, "log_every_n_steps": 2}}
    config = tiny.config_file(tmp_path, changes)
    assert tenshot("fit", "--config", config, "--trainer.default_root_dir", tmp_path / "run").status == 0
    for name in ("images_per_second", "steps_per_second", "data_wait", "model_tflops"):
        assert set(column(tmp_path / "run", f"speed/{name}")) == {3, 5}
    assert list(column(tmp_path / "run", "train/loss")) == [1, 3, 5]  # no rows of their own
    cost = cost_of(read_run(tmp_path / "run"))
    assert cost.logged
    assert cost.device_hours == list(column(tmp_path / "run", "speed/process_hours").values())[-1] > 0
    assert cost.rate is not None
    assert cost.rate > 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    throughput.monotonic = watch = Clock()  # type: ignore[assignment]
    method, waits = seconds(watch)
    log = RunLog(sys.argv[1])
    fit(Path(sys.argv[1]), method, Data(4, waits), 10, Throughput(), devices=2, strategy="ddp", logger=log)
