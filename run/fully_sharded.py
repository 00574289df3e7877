"""Training with sharded weights (FSDP2), and its checkpoints in parts."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.strategies import ModelParallelStrategy, ParallelStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from tenshot.distributed.sharding import from_rows, gathered, is_sharded, local, sharded_like
from tenshot.errors import InputError
from tenshot.models.pretrained import read_parts
from tenshot.models.pretrained.sharded import SHARD, joined, part_path, rows_of
from tenshot.run.atomic_io import (
    failure_of,
    note,
    of_a_write,
    partial_of,
    put_in_place,
    reason,
    refuse_foreign,
    removed,
    written,
)

__all__ = ["FullySharded"]


class FullySharded(ModelParallelStrategy):
    """Shard weights, gradients, optimiser states and the average over all GPUs (``configs/trainer/fsdp.yaml``).

    What it adds to Lightning's strategy: the mesh is all GPUs by one; a checkpoint is a folder with a part of each
    rank, the average in it, which is there as a whole or not at all; checkpoints of any strategy and any number of
    ranks are resumed; validation may have a batch more on one rank than on another; and where nothing is trained, each
    rank has the whole network.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1)
        self._while_validating = ExitStack()

    def setup_environment(self) -> None:
        """Make the mesh of all ranks."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """As in other strategies: what a run begins with must be known when it begins."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """As in other strategies."""
        return True

    def on_train_start(self) -> None:
        """Make sure that something is sharded.

        Raises:
            InputError: The method shards nothing: each rank would train on its own.
        """
        assert self.lightning_module is not None
        if not is_sharded(self.lightning_module):
            method = type(self.lightning_module).__name__
            raise InputError(f"--trainer.strategy {type(self).__name__}: {method} shards no weights: take ddp")

    def on_validation_start(self) -> None:
        """Gather the weights: ranks may have different numbers of batches."""
        assert self.lightning_module is not None
        self._while_validating.enter_context(gathered(self.lightning_module))

    def on_validation_end(self) -> None:
        """Shard them again."""
        self._while_validating.close()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The weights as they are, sharded."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimiser's state as it is, sharded."""
        return ParallelStrategy.optimizer_state(self, optimizer)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take the weights of a checkpoint, whole or sharded."""
        assert self.lightning_module is not None
        own, found = self.lightning_module.state_dict(), checkpoint["state_dict"]
        state = {name: sharded_like(value, own[name]) if name in own else value for name, value in found.items()}
        self.lightning_module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the optimisers' states of a checkpoint, whole or sharded."""
        states = []
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            of_weights = {
                number: {
                    name: sharded_like(value, weights[number]) if _shaped_like(value, weights[number]) else value
                    for name, value in values.items()
                }
                for number, values in state["state"].items()
            }
            states.append(state | {"state": of_weights})
        ParallelStrategy.load_optimizer_state_dict(self, {"optimizer_states": states})

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: _PATH, storage_options: Any | None = None) -> None:
        """Write a checkpoint in parts: all beside the target, flushed to disk, then renamed together.

        Raises:
            InputError: A part cannot be written; nothing is left behind. On all ranks.
        """
        target = Path(self.broadcast(filepath))
        partial = partial_of(target)
        try:
            self._together(lambda: _make_empty(partial) if self.is_global_zero else None)
            mine = part_path(partial, self.global_rank, self.world_size)
            self._together(lambda: written(_rows(checkpoint), mine))
            self._together(lambda: put_in_place(partial, target) if self.is_global_zero else None)
        except OSError as error:
            if self.is_global_zero:
                shutil.rmtree(partial, ignore_errors=True)
            note(self.checkpoint_io, failure_of(target, error))

    def _together(self, action: Callable[[], None]) -> None:
        """Do something on every rank; if it fails on any, raise on all: none waits for one that has stopped."""
        mine: str | None = None
        other: Exception | None = None
        try:
            action()
        except Exception as error:
            mine, other = reason(error), None if of_a_write(error) else error
        reasons: list[tuple[str | None, bool]] = [(None, False)] * self.world_size
        dist.all_gather_object(reasons, (mine, other is not None))
        if other is not None:
            raise other
        for rank, (why, is_other) in enumerate(reasons):
            if is_other:
                raise RuntimeError(f"rank {rank}, while a checkpoint was written: {why}")
        first = next((why for why, _ in reasons if why), None)
        if first is not None:
            raise OSError(first)

    def load_checkpoint(self, checkpoint_path: _PATH, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint of any strategy; what was sharded is so again, over the ranks that there are now.

        Raises:
            InputError: As :meth:`AtomicCheckpointIO.load_checkpoint`.
        """
        path = Path(self.broadcast(checkpoint_path))
        assert self.lightning_module is not None
        like = next((w for w in self.lightning_module.parameters() if isinstance(w, DTensor)), None)
        if like is None:
            return self.checkpoint_io.load_checkpoint(path, weights_only=weights_only)
        parts = read_parts(path)
        refuse_foreign(parts[0], path)

        def mine(pieces: Sequence[Tensor]) -> DTensor:
            rows, size = rows_of(pieces, self.global_rank, self.world_size)
            return from_rows(rows.to(self.root_device), size, like)

        content: dict[str, Any] = joined(parts, mine)
        return content


def _shaped_like(value: Any, weight: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == weight.shape


def _rows(tree: Any) -> Any:
    """A checkpoint as one rank writes it."""
    if isinstance(tree, DTensor):
        return {SHARD: local(tree).detach().cpu()}
    if isinstance(tree, Mapping):
        return {key: _rows(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_rows(value) for value in tree)
    return tree


def _make_empty(folder: Path) -> None:
    removed(folder)
    folder.mkdir(parents=True)
