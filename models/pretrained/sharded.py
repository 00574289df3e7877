"""Checkpoints in parts: a folder with one file a process, each with its rows of what was sharded.

Every file is an ordinary checkpoint in which a sharded tensor stands as ``{SHARD: its rows}``; whatever
else there is stands in all of them. PyTorch's own format for this holds pickles that run code when read; these files
hold none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["SHARD", "Parts", "is_sharded", "joined", "part_files", "part_path", "rows_of"]

SHARD = "rows of this process"
Join = Callable[[Sequence[Tensor]], Any]


def part_path(folder: Path, rank: int, ranks: int) -> Path:
    """The file of one process."""
    return folder / f"part={rank:05d}-of-{ranks:05d}.ckpt"


def is_sharded(path: str | Path) -> bool:
    """Whether it is the folder of a checkpoint in parts, whole or not."""
    return next(Path(path).glob("part=*.ckpt"), None) is not None


def part_files(folder: str | Path) -> list[Path]:
    """The files of all processes, in order; an empty list where one of them is missing."""
    found = sorted(Path(folder).glob("part=*.ckpt"))
    ranks = len(found)
    return found if found == [part_path(Path(folder), rank, ranks) for rank in range(ranks)] else []


def joined(parts: Sequence[Any], join: Join) -> Any:
    """What the parts make together.

    Args:
        parts: The contents of all files, or the same piece of each; one alone may be that of an ordinary checkpoint.
        join: What becomes of a tensor's rows, in order of rank.
    """
    first = parts[0]
    if isinstance(first, Mapping):
        if first.keys() == {SHARD}:
            return join([part[SHARD] for part in parts])
        return {key: joined([part[key] for part in parts], join) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(joined(pieces, join) for pieces in zip(*parts, strict=True))
    return first


class Parts(Mapping[str, Any]):
    """A checkpoint in parts, each of its entries joined when it is asked for.

    parts: the contents of all files
    """

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        self.parts = parts

    def __getitem__(self, key: str) -> Any:
        return joined([part[key] for part in self.parts], lambda rows: torch.cat(list(rows)))

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts[0])

    def __len__(self) -> int:
        return len(self.parts[0])


def rows_of(pieces: Sequence[Tensor], rank: int, ranks: int) -> tuple[Tensor, torch.Size]:
    """The rows of one of so many processes, however many had them before.

    The first dimension is cut into equal parts, rounded up, so that the last processes may have fewer or none.

    Args:
        pieces: The tensor (N, ...), cut along its first dimension.
        rank: Of the process.
        ranks: How many there are.

    Returns:
        Its rows (n, ...), and the size of the whole tensor.
    """
    count = sum(map(len, pieces))
    each = -(-count // ranks)
    start, end = min(rank * each, count), min((rank + 1) * each, count)
    mine, at = [], 0
    for piece in pieces:
        mine.append(piece[max(start - at, 0) : max(end - at, 0)])
        at += len(piece)
    return torch.cat(mine), torch.Size((count, *pieces[0].shape[1:]))
