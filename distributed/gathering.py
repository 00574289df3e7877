"""Bring together what the ranks hold, however much that is on each: rows in host memory, sums in place.

torchmetrics gathers list states element by element: ranks with different numbers of updates, or with none, make its
collectives disagree (a wrong number on one rank, an error or a wait for ever on the other). Here ranks first agree on
what there is.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tenshot.errors import InputError

__all__ = ["gather_objects", "gather_rows", "reduce_sum"]

CHUNK_BYTES = 64 * 2**20
"""What one collective brings to a device."""


def gather_objects(value: Any, group: Any = None) -> list[Any]:
    """What each rank gives, by rank; for small things."""
    every: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(every, value, group)
    return every


def gather_rows(rows: Tensor | None, group: Any = None) -> Tensor | None:
    """The rows of all ranks, on every rank, in host memory.

    The order is position, then rank. So where rank r of W holds every W-th row from the r-th on, which is how data and
    samples are sharded, it is the order of one process.

    Args:
        rows: (N, ...), with any N on each rank; none on a rank that has not seen a row.
        group: Process group; none for all ranks.

    Returns:
        (sum of N, ...), or none where no rank has a row.

    Raises:
        InputError: Rows of different shapes or types; on all ranks.
    """
    described = gather_objects(None if rows is None else (len(rows), tuple(rows.shape[1:]), rows.dtype), group)
    kinds = {row[1:] for row in described if row is not None}
    if not kinds:
        return None
    if len(kinds) > 1:
        raise InputError(f"ranks hold rows of different kinds: {sorted(map(str, kinds))}: give all ranks the same size")
    shape, dtype = kinds.pop()
    counts = torch.tensor([0 if row is None else row[0] for row in described])
    most = int(counts.max())
    held = torch.arange(most)[:, None] < counts  # (position, rank)
    together, filled = torch.empty(int(counts.sum()), *shape, dtype=dtype), 0
    row_bytes = max(1, together[:1].nbytes * len(counts))
    step = max(1, CHUNK_BYTES // row_bytes)
    device = _wire(group)
    for start in range(0, most, step):
        mine = torch.zeros(min(step, most - start), *shape, dtype=dtype, device=device)
        if rows is not None:
            own = rows[start : start + step]
            mine[: len(own)] = own.to(device)
        every = [torch.empty_like(mine) for _ in described]
        dist.all_gather(every, mine, group)
        chunk = torch.stack(every, dim=1).cpu()[held[start : start + step]]
        together[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return together


def reduce_sum(value: Tensor, group: Any = None) -> Tensor:
    """The sum over ranks, on every rank, where an empty tensor counts as zero.

    value: any shape, the same on all ranks but those that hold an empty one
    """
    filled = {shape for shape in gather_objects(tuple(value.shape), group) if 0 not in shape}
    if not filled:
        return value
    if len(filled) > 1:
        raise InputError(f"ranks hold sums of different sizes: {sorted(filled)}: give all ranks the same features")
    total = (value if value.numel() else value.new_zeros(filled.pop())).to(_wire(group), copy=True)
    dist.all_reduce(total, group=group)
    return total.to(value.device)


def _wire(group: Any) -> torch.device:
    """The device whose tensors the group can send."""
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or dist.get_backend(group) in ("gloo", "mpi", "undefined"):
        return torch.device("cpu")
    return torch.device(accelerator.type, torch.accelerator.current_device_index())
