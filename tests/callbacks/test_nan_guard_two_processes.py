"""Two gloo processes, of which one finds what is no number: both leave, with one message.

Run by ``start_ranks``, this file is the script of one rank.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from lightning.pytorch import Callback, LightningModule
from ranks import start_ranks

from tenshot.cli import main


class Spoils(Callback):
    """Of one rank: the images of a step, or one of the weights after it, which a mean over ranks has not made equal."""

    def __init__(self, rank: int, what: str) -> None:
        self.rank, self.what = rank, what

    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.what == "loss" and trainer.global_rank == self.rank and trainer.global_step == 2:
            batch["image"].fill_(torch.nan)

    def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *arguments: Any) -> None:
        if self.what == "weights" and trainer.global_rank == self.rank and trainer.global_step == 2:
            next(pl_module.parameters()).data.fill_(torch.inf)


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "what"), [(1, "loss"), (0, "weights")])
def test_all_ranks_leave_with_the_same_status_and_the_first_says_why(tmp_path: Path, rank: int, what: str):
    changes = {
        "trainer": {
            "max_steps": 1000, "strategy": "ddp", "devices": 2, "default_root_dir": str(tmp_path / "run"),
            "callbacks": [
                {"class_path": "test_nan_guard_two_processes.Spoils", "init_args": {"rank": rank, "what": what}}
            ],
        },
        "checkpoint": {"every_n_steps": 2},
    }  # fmt: skip
    ranks = start_ranks(__file__, tiny.config_file(tmp_path, changes), folder=tmp_path)
    try:
        statuses = [rank.wait(timeout=200) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    said = [(tmp_path / str(rank)).read_text(errors="replace") for rank in range(2)]
    assert statuses == [1, 1], said
    complaints = [[line for line in text.splitlines() if line.startswith("tenshot: error: ")] for text in said]
    assert [len(lines) for lines in complaints] == [1, 0], said
    expected = {
        "loss": "the loss became NaN or infinite at step 3:",
        "weights": "the weights became NaN or infinite at step 2, before the first checkpoint:",
    }
    assert complaints[0][0].startswith(f"tenshot: error: {expected[what]}")
    assert "Traceback" not in "".join(said)
    kept = ["step=00000002.ckpt"] if what == "loss" else []
    assert [saved.name for saved in (tmp_path / "run" / "checkpoints").glob("*")] == kept


if __name__ == "__main__":
    main(["fit", "--config", sys.argv[1]])
