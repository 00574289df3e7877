from pathlib import Path
from typing import Any

from clocked import Data, Net, column, fit

from tenshot.callbacks import ResumeLoggedMetrics, StepCheckpoint
from tenshot.checkpoints.runs import checkpoint_path


class NowAndThen(Net):
    """Logs its step at every third one."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step % 3 == 0:
            self.log("train/rare", 0.1 + self.global_step)
        return super().training_step(batch, batch_idx)


def test_what_is_logged_now_and_then_stands_in_the_rows_of_a_resumed_run_too(tmp_path: Path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    fit(whole, NowAndThen(), Data(), 8, ResumeLoggedMetrics())
    fit(halves, NowAndThen(), Data(), 5, ResumeLoggedMetrics(), StepCheckpoint(5))
    fit(halves, NowAndThen(), Data(), 8, ResumeLoggedMetrics(), resume=checkpoint_path(halves, 5))

    assert column(whole, "train/rare") == column(halves, "train/rare")
    assert list(column(whole, "train/rare")) == list(range(8))
    assert round(column(halves, "train/rare")[5], 4) == 3.1


def test_a_checkpoint_without_them_begins_with_nothing(tmp_path: Path):
    fit(tmp_path, NowAndThen(), Data(), 5, StepCheckpoint(5))
    fit(tmp_path, NowAndThen(), Data(), 8, ResumeLoggedMetrics(), resume=checkpoint_path(tmp_path, 5))
    assert list(column(tmp_path, "train/rare")) == [0, 1, 2, 3, 4, 6, 7]
