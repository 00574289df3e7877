import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "wandb_dashboard.py"


def test_it_can_be_looked_at_without_network():
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    words = [sys.executable, str(SCRIPT), "--entity", "somebody", "--project", "tried", "--dry-run"]
    printed = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    view = json.loads(printed)
    assert (view["entity"], view["project"]) == ("somebody", "tried")
    assert '"name": "model.value.class_path"' in printed  # how W&B spells a key within the configuration
    for shown in (
        "eval/fid",
        "eval/intra_lpips",
        "eval/fd_efficientnet_lite0",
        "train/loss",
        "samples",
        "trainer/global_step",
    ):
        assert f'"{shown}"' in printed
