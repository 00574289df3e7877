"""Two gloo processes go back in a run: what came after is set aside once, and both go on from the same step.

Run by ``run_ranks``, this file is the script of one rank.
"""

import csv
import sys
from pathlib import Path

import torch
import yaml
from ranks import run_ranks

from tenshot.checkpoints.runs import newest_checkpoint
from tenshot.cli import main


def test_two_ranks_set_a_newer_branch_aside_once(run_copy: Path):
    later = (run_copy / "checkpoints" / "step=00000004.ckpt").read_bytes()
    printed = run_ranks(__file__, run_copy, timeout=200)

    checkpoints = run_copy / "checkpoints"
    [aside] = (path for path in checkpoints.iterdir() if path.is_dir())
    assert aside.name == "abandoned-after-step=00000002"
    assert (aside / "step=00000004.ckpt").read_bytes() == later
    assert printed.count(f"is set aside in {aside}") == 1
    newest = newest_checkpoint(run_copy)
    assert newest == checkpoints / "step=00000003.ckpt"
    assert torch.load(newest, weights_only=True)["global_step"] == 3
    with open(run_copy / "logs" / "version_0" / "metrics.csv") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))
    assert max(steps) == 2
    assert yaml.safe_load((run_copy / "config.yaml").read_text())["trainer"]["max_steps"] == 3


if __name__ == "__main__":
    torch.set_num_threads(1)
    run = Path(sys.argv[1])
    words = ["fit", "--ckpt_path", str(run / "checkpoints" / "step=00000002.ckpt"), "--trainer.max_steps", "3"]
    words += ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.log_every_n_steps", "1"]
    main([*words, "--data.batch_size", "2"])
