import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.strategies import SingleDeviceStrategy
from ranks import run_ranks

from tenshot.callbacks import EMA, Preempted, Preemption, SampleGrid, StepCheckpoint
from tenshot.datamodules.reading import ImageError
from tenshot.datamodules.refusals import Refusals
from tenshot.errors import InputError


@pytest.fixture(autouse=True)
def _signals_are_not_ignored() -> Iterator[None]:
    """As they are where the tests are started by nohup or in the background."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


PARTS = ("state_dict", "ema", "optimizer_states", "global_step")


class Signals(Callback):
    """Send this process a signal before a micro-batch."""

    def __init__(self, number: signal.Signals, batch: int) -> None:
        self.number, self.batch = number, batch

    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            os.kill(os.getpid(), self.number)


def module(kind: str) -> LightningModule:
    torch.manual_seed(0)
    return tiny.gan() if kind == "gan" else tiny.ddpm(unet=tiny.unet_config(dropout=0.3, **tiny.SMALL))


def fit(folder: Path, kind: str, *callbacks: Callback, steps: int = 6, resume: int | None = None, **more: Any) -> None:
    path = folder / "checkpoints" / f"step={resume:08d}.ckpt" if resume is not None else None
    every = [Preemption(), *callbacks, StepCheckpoint(every_n_steps=100)]
    data = tiny.faces(**({"image_size": 32} if kind == "gan" else {}), **more.pop("data", {}))
    trainer = tiny.trainer(folder, steps, *every, ema=EMA(0.9), **more)
    trainer.fit(module(kind), data, ckpt_path=path)


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def content(folder: Path, step: int) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"step={step:08d}.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run of five steps that is not stopped saves at its end, by its kind and micro-batches a step."""

    @cache
    def run(kind: str, accumulate: int) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("whole")
        fit(folder, kind, steps=5, accumulate_grad_batches=accumulate)
        return content(folder, 5)

    return run


# The signal comes before a batch, numbered from 0, of so many a step; steps up to `left` are done when the run stops.
@pytest.mark.parametrize(
    ("kind", "number", "accumulate", "batch", "left"),
    [
        ("ddpm", signal.SIGUSR1, 1, 2, 3),
        ("ddpm", signal.SIGTERM, 2, 4, 3),  # the first of two micro-batches: the other one is still done
        ("ddpm", signal.SIGUSR1, 2, 5, 3),
        ("gan", signal.SIGUSR1, 1, 2, 3),
    ],
)
def test_leaving_and_going_on_ends_as_a_run_that_never_left(
    whole: Any, tmp_path: Path, kind: str, number: signal.Signals, accumulate: int, batch: int, left: int
):
    more = {"accumulate_grad_batches": accumulate}
    with pytest.raises(Preempted) as raised:
        fit(tmp_path / "left", kind, Signals(number, batch), steps=5, **more)
    assert raised.value.code == 85
    assert saved(tmp_path / "left") == [f"step={left:08d}.ckpt"]

    fit(tmp_path / "left", kind, steps=5, resume=left, **more)
    ours, theirs = content(tmp_path / "left", 5), whole(kind, accumulate)
    for part in PARTS:
        tiny.assert_same(ours[part], theirs[part], part)


def test_leaving_adds_no_validation_and_no_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    validated: list[int] = []
    monkeypatch.setattr(
        tiny.DDPM, "on_validation_epoch_end", lambda self: validated.append(self.trainer.global_step), raising=True
    )
    with pytest.raises(Preempted):
        fit(
            tmp_path, "ddpm", Signals(signal.SIGUSR1, 4), SampleGrid(every_n_steps=2, count=1),
            val_check_interval=2, check_val_every_n_epoch=None, data={"num_val": 2},
        )  # fmt: skip
    assert saved(tmp_path) == ["step=00000005.ckpt"]
    assert validated == [2, 4]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["step=00000002.png", "step=00000004.png"]


def test_a_signal_in_the_last_step_changes_nothing(tmp_path: Path):
    fit(tmp_path, "ddpm", Signals(signal.SIGUSR1, 1), steps=2)
    assert saved(tmp_path) == ["step=00000002.ckpt"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_people_are_told_how_to_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, number: signal.Signals, status: int
):
    caplog.set_level("INFO")
    with pytest.raises(Preempted) as raised:
        fit(tmp_path, "ddpm", Signals(number, 2))
    assert raised.value.code == status
    assert saved(tmp_path) == ["step=00000003.ckpt"]
    said = f"stopped ({number.name}): step 3 is saved; go on with --ckpt_path {tmp_path} (exit status {status})"
    assert said in caplog.text


def test_what_nohup_ignores_stays_ignored(tmp_path: Path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fit(tmp_path, "ddpm", Signals(signal.SIGHUP, 0), steps=2)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert saved(tmp_path) == ["step=00000002.ckpt"]


class Left(BaseException):
    """In place of the end of this process."""


class Twice(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 3:
            trainer.strategy.checkpoint_io.join()  # a thread writes the one of step 2
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("every", [2, 100])
def test_a_second_signal_stops_it_at_once_and_says_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], every: int
):
    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Left, match="130"):
        tiny.trainer(tmp_path, 9, Preemption(), Twice(), StepCheckpoint(every)).fit(module("ddpm"), tiny.faces())
    first, second = [line for line in capfd.readouterr().err.splitlines() if line.startswith("tenshot: ")]
    assert "Ctrl-C again" in first
    if every == 2:
        assert second.endswith(f"steps 3 to 3 are lost; go on from step 2 with --ckpt_path {tmp_path}")
        assert saved(tmp_path) == ["step=00000002.ckpt"]
    else:
        assert second.endswith("stopped at once, nothing saved: steps 1 to 3 are lost")
        assert not (tmp_path / "checkpoints").exists()


class KillsWorker(Callback):
    """As the system does where memory runs out."""

    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            [worker] = multiprocessing.active_children()
            os.kill(worker.pid or 0, signal.SIGKILL)
            worker.join()


def test_a_worker_that_dies_ends_the_run_once_it_is_saved(tmp_path: Path):
    data = {"num_workers": 1}
    with pytest.raises(InputError, match=r"process that prepares batches died .*; go on with --ckpt_path") as raised:
        fit(tmp_path / "left", "ddpm", KillsWorker(), data=data, steps=30)
    [name] = saved(tmp_path / "left")
    step = int(name[5:13])
    assert 3 <= step < 30
    assert f"step {step} is saved" in str(raised.value)
    assert "\n" not in str(raised.value)
    fit(tmp_path / "whole", "ddpm", steps=step)
    for part in PARTS:
        tiny.assert_same(content(tmp_path / "left", step)[part], content(tmp_path / "whole", step)[part], part)


class MeetsTorn(Callback):
    """An image that cannot be used, where none may be."""

    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            trainer.datamodule.refusals.add(ImageError("a.png is torn", "unreadable"))


def test_too_many_broken_images_end_the_run_once_it_is_saved(tmp_path: Path):
    data = tiny.faces()
    data.refusals = Refusals(0, "--data.max_unusable")
    trainer = tiny.trainer(tmp_path, 6, Preemption(), MeetsTorn(), StepCheckpoint(100))
    with pytest.raises(InputError, match=r"^a\.png is torn: step 3 is saved; go on with --ckpt_path"):
        trainer.fit(module("ddpm"), data)
    assert saved(tmp_path) == ["step=00000003.ckpt"]


def test_handlers_are_given_back(tmp_path: Path):
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    fit(tmp_path, "ddpm", steps=1)
    assert [signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


def test_one_process_agrees_without_a_collective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And on devices ranks agree every so many steps only, because reading the answer waits for the device."""
    asked: list[int] = []
    monkeypatch.setattr(
        SingleDeviceStrategy, "reduce_boolean_decision", lambda self, flag, all: asked.append(1) or flag
    )

    class Ranks:
        world_size, global_step, callbacks = 2, 0, ()
        train_dataloader = val_dataloaders = None
        strategy = SingleDeviceStrategy("meta")

    preemption, ranks = Preemption(every_n_steps=10), Ranks()
    for step in range(1, 31):
        ranks.global_step = step
        preemption.on_train_batch_end(ranks, None, None, None, step)  # type: ignore[arg-type]
    assert len(asked) == 3


def test_two_ranks_stop_together_when_one_gets_a_signal(tmp_path: Path):
    run_ranks(__file__, tmp_path, timeout=200)

    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["85 at step 3"] * 2
    assert saved(tmp_path) == ["step=00000003.ckpt"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    signals = Signals(signal.SIGTERM, 2 if rank == "1" else -1)
    trainer = tiny.trainer(folder, 6, Preemption(), signals, StepCheckpoint(100), devices=2, strategy="ddp")
    try:
        trainer.fit(module("ddpm"), tiny.faces())
    except Preempted as left:
        (folder / f"{rank}.txt").write_text(f"{left.code} at step {trainer.global_step}")
