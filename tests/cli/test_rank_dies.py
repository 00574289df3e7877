"""A rank that dies takes the others down, and its own traceback is there to read.

Run by torchrun, this file is the script of one rank.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from lightning.pytorch import Callback, LightningModule

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


@pytest.mark.slow
@pytest.mark.parametrize(("how", "said"), [("error", "RuntimeError: the second rank fell over"), ("killed", "SIGKILL")])
def test_the_job_ends_and_says_why(tmp_path: Path, how: str, said: str):
    changes = {
        "trainer": {
            "max_steps": 1000, "strategy": "ddp", "devices": 2, "default_root_dir": str(tmp_path / "run"),
            "callbacks": [{"class_path": "test_rank_dies.Dies", "init_args": {"how": how}}],
        },
        "checkpoint": {"every_n_steps": 2},
    }  # fmt: skip
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ended = subprocess.run(
        [*words, tiny.config_file(tmp_path, changes)], env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode != 0
    assert said in ended.stderr
    if how == "error":  # before what the other rank and the launcher say of it
        first = next(line for line in ended.stderr.splitlines() if re.search(r"\w+Error: ", line))
        assert said in first
    assert [saved.name for saved in (tmp_path / "run" / "checkpoints").iterdir()] == ["step=00000002.ckpt"]


if __name__ == "__main__":
    main(["fit", "--config", sys.argv[1]])
