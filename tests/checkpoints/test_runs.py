from pathlib import Path

import pytest
import torch

from tenshot.checkpoints.runs import checkpoint_file, checkpoint_path, checkpoints_of, newest_checkpoint
from tenshot.errors import InputError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Checkpoints of steps 9, 10 and 100, and what a killed run leaves beside them."""
    for step in (9, 100, 10):
        path = checkpoint_path(tmp_path, step)
        path.parent.mkdir(exist_ok=True)
        torch.save({"weights": torch.zeros(1000), "step": step}, path)
    (tmp_path / "checkpoints" / ".step=00000101.ckpt.partial").write_bytes(b"half")
    (tmp_path / "checkpoints" / "notes.txt").touch()
    return tmp_path


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_the_newest_step_comes_first(run: Path):
    assert [path.name for path in checkpoints_of(run)] == [f"step={step:08d}.ckpt" for step in (100, 10, 9)]
    assert newest_checkpoint(run) == checkpoint_path(run, 100)
    assert checkpoint_file(run) == checkpoint_path(run, 100)


def test_torn_checkpoints_are_passed_over(run: Path):
    tear(checkpoint_path(run, 100))
    assert newest_checkpoint(run) == checkpoint_path(run, 10)
    checkpoint_path(run, 10).write_bytes(b"")
    assert checkpoint_file(str(run)) == checkpoint_path(run, 9)


def test_a_file_is_itself(run: Path):
    assert checkpoint_file(checkpoint_path(run, 9)) == checkpoint_path(run, 9)


def test_a_folder_without_a_whole_checkpoint(run: Path, tmp_path: Path):
    for path in checkpoints_of(run):
        tear(path)
    assert newest_checkpoint(run) is None
    with pytest.raises(InputError, match="no whole checkpoint"):
        checkpoint_file(run)
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_a_missing_path():
    with pytest.raises(InputError, match=r"nowhere: no such checkpoint file or run folder"):
        checkpoint_file("nowhere")
