"""Networks that say themselves how their weights are sharded over ranks (FSDP2)."""

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from tenshot.models.blocks import ResBlock, Stage

__all__ = ["ShardedByStage"]


class ShardedByStage(nn.Module):
    """A network of stages, which are gathered one at a time."""

    def parallelize(self, mesh: DeviceMesh, dtype: torch.dtype | None = None) -> None:
        """Shard the weights over ranks, in place; each is then a ``DTensor`` with this rank's rows.

        Weights, and the sums of gradients, keep their precision.

        Args:
            mesh: Of one dimension, the ranks.
            dtype: What stages are gathered in, and project the time embedding by; whatever is outside of them, and the
                projections where none is given, stays as the weights are.
        """
        self.to(memory_format=torch.contiguous_format)  # rows are cut from plain memory
        stages = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        parts = [part for part in self.modules() if any(True for _ in part.parameters())]
        for part in parts:
            if isinstance(part, ResBlock):
                fully_shard(part.embed, mesh=mesh, reshard_after_forward=True)
        for part in parts:
            if isinstance(part, Stage):
                fully_shard(part, mesh=mesh, reshard_after_forward=True, mp_policy=stages)
        fully_shard(self, mesh=mesh, reshard_after_forward=True)
