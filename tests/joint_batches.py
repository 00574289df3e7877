"""One process with the joint batch, in which is drawn what two ranks draw for their halves of it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tenshot.callbacks import StepSeed
from tenshot.distributed.seeding import position_seed

RANKS = 2


class RandomOfRanks(TorchFunctionMode):
    """Inside, what is drawn for a joint batch is what the ranks draw for their parts of it."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[Tensor] = []

    def seed(self, *seeds: int) -> None:
        self.states = [torch.Generator().manual_seed(seed).get_state() for seed in seeds]

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.randint:
            *bounds, (n,) = args
            return self.joined([partial(func, *bounds, (n // RANKS,), **kwargs)] * RANKS)
        if func is torch.rand:
            return self.joined([partial(func, args[0] // RANKS, **kwargs)] * RANKS)
        if func in (torch.randn_like, F.dropout):
            return self.joined([partial(func, part, *args[1:], **kwargs) for part in args[0].chunk(RANKS)])
        return func(*args, **kwargs)

    def joined(self, draws: Sequence[Callable[[], Tensor]]) -> Tensor:
        parts = []
        for rank, draw in enumerate(draws):
            torch.set_rng_state(self.states[rank])
            parts.append(draw())
            self.states[rank] = torch.get_rng_state()
        return torch.cat(parts)


class SeedAsRanks(StepSeed):
    """Seeds of both ranks for a joint batch, and of rank b for micro-batch b of one process."""

    def __init__(self, random: RandomOfRanks) -> None:
        super().__init__(seed=3)
        self.random = random

    def _reseed(self, *position: int) -> None:
        kind, _, micro_batch, step = position
        self.random.seed(*(position_seed([3, kind, rank, 0, step]) for rank in range(RANKS)))
        super()._reseed(kind, micro_batch, 0, step)


def in_joint_batches(module: LightningModule) -> Callback:
    """Let each training step draw what the ranks draw; the callback seeds it."""
    random, step = RandomOfRanks(), module.training_step

    def training_step(batch: Any, batch_idx: int) -> Any:
        with random:
            return step(batch, batch_idx)

    module.training_step = training_step  # type: ignore[method-assign]
    return SeedAsRanks(random)
