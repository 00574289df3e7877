"""Checkpoints in parts: cutting rows as torch.chunk does, and putting them together again."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from tenshot.checkpoints.runs import checkpoint_file, newest_checkpoint
from tenshot.errors import InputError
from tenshot.models.pretrained import is_whole, read_checkpoint, sha256
from tenshot.models.pretrained.sharded import SHARD, part_path, rows_of

CONTENT: dict[str, Any] = {
    "state_dict": {"a": torch.arange(15.0).view(5, 3), "b": torch.arange(2.0)},
    "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"betas": (0.9, 0.99)}]}],
    "step": 4,
}


def cut(tree: Any, rank: int, ranks: int) -> Any:
    """What a rank writes, if every tensor with rows is sharded."""
    if isinstance(tree, torch.Tensor) and tree.dim():
        chunks = tree.chunk(ranks)
        return {SHARD: (chunks[rank] if rank < len(chunks) else tree[:0]).clone()}
    if isinstance(tree, dict):
        return {key: cut(value, rank, ranks) for key, value in tree.items()}
    if isinstance(tree, list):
        return [cut(value, rank, ranks) for value in tree]
    return tree


@pytest.fixture(params=[1, 2, 4])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A checkpoint of a run in 1, 2 or 4 parts."""
    folder = tmp_path / "run" / "checkpoints" / "step=00000004.ckpt"
    folder.mkdir(parents=True)
    for rank in range(request.param):
        torch.save(cut(CONTENT, rank, request.param), part_path(folder, rank, request.param))
    return folder


def test_the_parts_make_what_was_cut(folder: Path):
    content = read_checkpoint(folder)
    tiny.assert_same(dict(content), CONTENT)
    assert "step" in content
    assert content.get("ema") is None


def test_the_folder_is_the_checkpoint_of_its_run(folder: Path):
    run = folder.parent.parent
    assert is_whole(folder)
    assert checkpoint_file(folder) == checkpoint_file(run) == newest_checkpoint(run) == folder


def test_the_hash_is_of_all_parts(folder: Path):
    before = sha256(folder)
    part = max(folder.iterdir())
    torch.save(torch.load(part) | {"step": 5}, part)
    assert sha256(folder) != before


def test_without_a_part_it_is_no_checkpoint(folder: Path):
    torch.save({}, part_path(folder, 0, 9))
    assert not is_whole(folder)
    assert newest_checkpoint(folder.parent.parent) is None
    with pytest.raises(InputError, match=r"step=00000004\.ckpt: some of its parts are missing"):
        read_checkpoint(folder)


@pytest.mark.parametrize("before", [1, 2, 3, 8])
@pytest.mark.parametrize("after", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 3, 6, 17])
def test_rows_are_those_of_chunk_however_they_were_cut(rows: int, before: int, after: int):
    whole = torch.arange(rows * 2.0).view(rows, 2)
    chunks = whole.chunk(after)
    for rank in range(after):
        mine, size = rows_of(whole.chunk(before), rank, after)
        assert torch.equal(mine, chunks[rank] if rank < len(chunks) else whole[:0])
        assert size == whole.shape
