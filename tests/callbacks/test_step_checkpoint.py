import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.errors import InputError
from tenshot.run import AtomicCheckpointIO, atomic_io


class Small(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, steps: int, every: int, keep: int = 2, resume: int | None = None, **arguments: Any) -> None:
    path = folder / "checkpoints" / f"step={resume:08d}.ckpt" if resume is not None else None
    tiny.trainer(folder, steps, StepCheckpoint(every, keep), **arguments).fit(Small(), tiny.faces(), ckpt_path=path)


def saved(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step=")) for path in (folder / "checkpoints").glob("*.ckpt"))


@pytest.mark.parametrize(("keep", "left"), [(1, [7]), (2, [6, 7]), (3, [4, 6, 7]), (9, [2, 4, 6, 7])])
def test_the_newest_are_kept_and_the_end_is_saved(tmp_path: Path, keep: int, left: list[int]):
    fit(tmp_path, 7, every=2, keep=keep)
    assert saved(tmp_path) == left


def test_an_end_on_the_beat_is_saved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written = []
    original = AtomicCheckpointIO.save_checkpoint
    monkeypatch.setattr(
        AtomicCheckpointIO,
        "save_checkpoint",
        lambda self, checkpoint, path, **rest: (written.append(Path(path).name), original(self, checkpoint, path)),
    )
    fit(tmp_path, 4, every=2)
    assert written == ["step=00000002.ckpt", "step=00000004.ckpt"]


def test_it_counts_optimiser_steps(tmp_path: Path):
    fit(tmp_path, 4, every=3, accumulate_grad_batches=3)
    assert saved(tmp_path) == [3, 4]


def full_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Let the disk be full at these steps."""
    replace = os.replace

    def maybe(source: Path, target: Path) -> None:
        if any(f"step={step:08d}.ckpt" in str(target) for step in steps):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", maybe)


def test_the_old_one_goes_only_when_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    original, present = AtomicCheckpointIO.save_checkpoint, []

    def save(self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Path, **rest: Any) -> None:
        present.append(saved(tmp_path))
        original(self, checkpoint, path)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save)
    full_at(monkeypatch, 3)
    fit(tmp_path, 4, every=1, keep=1)
    assert present == [[], [1], [2], [2]]
    assert saved(tmp_path) == [4]


def test_a_full_disk_on_the_way_is_said_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    full_at(monkeypatch, 2, 3, 5)
    caplog.set_level("INFO")
    fit(tmp_path, 6, every=1, keep=9)
    assert saved(tmp_path) == [1, 4, 6]
    said = [record.getMessage() for record in caplog.records if "No space left" in record.getMessage()]
    assert [line.split(" is not saved, training goes on: ")[0] for line in said] == ["step 2", "step 5"]
    assert "the last whole checkpoint is" in said[0]
    assert not any("\n" in line for line in said)


def test_an_end_that_cannot_be_saved_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    full_at(monkeypatch, 3)
    with pytest.raises(
        InputError, match=r"step=00000003.ckpt: could not be written .*last whole checkpoint is .*00002"
    ):
        fit(tmp_path, 3, every=1)
    assert saved(tmp_path) == [1, 2]


# In a thread


class Slow:
    """Writes of checkpoints that wait till the run has come to a step; after a while they give up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, go_on_at: int) -> None:
        self.events: list[str] = []
        self.reached, self.gave_up = threading.Event(), False
        self.go_on_at = go_on_at
        write = atomic_io.written

        def written(content: Any, path: Path) -> None:
            name = path.name.removeprefix(".").removesuffix(".partial")
            self.events.append(f"begins {name}")
            self.gave_up |= not self.reached.wait(20)
            write(content, path)
            self.events.append(f"ends {name}")

        monkeypatch.setattr(atomic_io, "written", written)

    def watching(self, and_then: Callable[[int], None] = lambda step: None) -> Callback:
        slow = self

        class Watch(Callback):
            def on_train_batch_start(self, trainer: Any, *batch: Any) -> None:
                and_then(trainer.global_step)
                if trainer.global_step == slow.go_on_at:
                    slow.reached.set()

        return Watch()


def test_training_goes_on_while_a_checkpoint_is_written_of_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    slow = Slow(monkeypatch, go_on_at=3)
    tiny.trainer(tmp_path, 5, slow.watching(), StepCheckpoint(2, keep=9), ema=EMA(0.5)).fit(Small(), tiny.faces())
    assert not slow.gave_up
    for step in (2, 4, 5):
        content = torch.load(tmp_path / "checkpoints" / f"step={step:08d}.ckpt", weights_only=True)
        assert content["global_step"] == step
        torch.testing.assert_close(content["state_dict"]["weight"], torch.tensor([-0.1 * step]))
    assert slow.events[:3] == ["begins step=00000002.ckpt", "ends step=00000002.ckpt", "begins step=00000004.ckpt"]


def test_one_is_written_at_a_time_and_the_old_one_stays_until_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    present: dict[int, list[int]] = {}
    slow = Slow(monkeypatch, go_on_at=3)
    watch = slow.watching(lambda step: present.__setitem__(step, saved(tmp_path)))
    tiny.trainer(tmp_path, 6, watch, StepCheckpoint(2, keep=1)).fit(Small(), tiny.faces())
    names = [f"{what} step={step:08d}.ckpt" for step in (2, 4, 6) for what in ("begins", "ends")]
    assert slow.events == names
    assert present[2] == present[3] == []
    assert present[5] in ([2], [2, 4], [4])  # the old one goes once the new one is whole
    assert saved(tmp_path) == [6]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(85), KeyboardInterrupt()])
def test_a_run_that_ends_early_ends_when_the_checkpoint_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    def fails(step: int) -> None:
        if step == 3:
            slow.reached.set()
            raise error

    slow = Slow(monkeypatch, go_on_at=-1)
    with pytest.raises(SystemExit if isinstance(error, KeyboardInterrupt) else type(error)):
        tiny.trainer(tmp_path, 9, slow.watching(fails), StepCheckpoint(2)).fit(Small(), tiny.faces())
    assert not slow.gave_up
    assert saved(tmp_path) == [2]
    assert slow.events == ["begins step=00000002.ckpt", "ends step=00000002.ckpt"]


class Leaves(Callback):
    """Ask for a checkpoint after the second batch."""

    def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *batch: Any) -> None:
        if trainer.global_step == 2:
            trainer.callbacks[-1].save_now()


def test_what_is_asked_for_is_saved_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def ask(folder: Path) -> None:
        tiny.trainer(folder, 3, Leaves(), StepCheckpoint(100)).fit(Small(), tiny.faces())

    ask(tmp_path / "a")
    assert saved(tmp_path / "a") == [2, 3]
    full_at(monkeypatch, 2)
    with pytest.raises(InputError, match=r"step=00000002.ckpt: could not be written"):
        ask(tmp_path / "b")


def test_a_resumed_run_does_not_save_again_what_it_was_loaded_from(tmp_path: Path):
    fit(tmp_path, 2, every=2)
    path = tmp_path / "checkpoints" / "step=00000002.ckpt"
    before = path.stat().st_mtime_ns
    fit(tmp_path, 2, every=2, resume=2)
    assert path.stat().st_mtime_ns == before


def test_later_checkpoints_do_not_push_out_what_a_run_resumed_before_them_saves(tmp_path: Path):
    fit(tmp_path, 4, every=1, keep=4)
    fit(tmp_path, 3, every=1, keep=1, resume=2)
    assert saved(tmp_path) == [3, 4]


def test_a_trial_run_saves_nothing(tmp_path: Path):
    fit(tmp_path, 2, every=1, fast_dev_run=2)
    assert not saved(tmp_path)


@pytest.mark.parametrize("option", ["every_n_steps", "keep"])
def test_nothing_below_1(option: str):
    with pytest.raises(InputError, match=rf"checkpoint\.{option} is 0: choose at least 1"):
        StepCheckpoint(**{option: 0})
