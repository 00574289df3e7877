"""A rank that dies takes the others down, and its own traceback is there to read.

Run by torchrun, this file is the script of one rank.
"""

import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import tiny
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.utilities import rank_zero_only
from ranks import Started
from torch.distributed import run

from tenshot.cli import main


class Dies(Callback):
    """The second rank falls over before its third step, with an error or without a word."""

    def __init__(self, how: str) -> None:
        self.how = how

    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == 1 and trainer.global_step == 2:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the second rank fell over")


def configuration(folder: Path, how: str) -> str:
    changes = {
        "trainer": {
            "max_steps": 1000, "strategy": "ddp", "devices": 2, "default_root_dir": str(folder / "run"),
            "callbacks": [{"class_path": "test_rank_dies.Dies", "init_args": {"how": how}}],
        },
        "checkpoint": {"every_n_steps": 2},
    }  # fmt: skip
    return tiny.config_file(folder, changes)


def launched(folder: Path, how: str) -> str:
    """What a launcher and its ranks print until it gives up: torchrun, but it forks the ranks, which import nothing."""
    forks = ["--standalone", "--nproc-per-node=2", "--run-path", "--start-method=fork"]
    said = folder / "said"
    launcher = Started(run.__file__, *forks, __file__, configuration(folder, how), output=said)
    assert launcher.wait(timeout=200) != 0
    assert [path.name for path in (folder / "run" / "checkpoints").iterdir()] == ["step=00000002.ckpt"]
    return said.read_text()


@pytest.mark.slow
def test_the_first_error_is_that_of_the_rank_that_fell_over(tmp_path: Path):
    first = next(line for line in launched(tmp_path, "error").splitlines() if re.search(r"\w+Error: ", line))
    assert "RuntimeError: the second rank fell over" in first  # not what the other rank and the launcher say of it


@pytest.mark.slow
def test_a_rank_that_is_killed_takes_the_job_down(tmp_path: Path):
    """Of which the launcher tells, or of the other one, if that was the first to notice."""
    assert re.search("SIGKILL|Connection closed by peer", launched(tmp_path, "killed"))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent))
    rank_zero_only.rank = int(os.environ["RANK"])  # of a forked rank, whose modules are imported, it is the launcher's
    try:
        main(["fit", "--config", sys.argv[1]])
    except Exception:
        traceback.print_exc()  # as Python does of a process of its own; the launcher tells of one forked rank alone
        raise
