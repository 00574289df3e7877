"""Samples: which images are to be generated, as numbers and seeds sharded over the ranks."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from tenshot.datamodules.conditions import ConditionOf, Conditions
from tenshot.errors import InputError

__all__ = ["Samples"]

MOST = 2**32  # samples of one seed
SEEDS = 2**31  # seeds whose sample seeds still fit into int64


class Samples(LightningDataModule):
    """The samples number 0 … count - 1; number i has the seed ``seed * 2**32 + i``, so no two seeds share a sample.

    Of samples that are drawn from files of conditions, the names of these give other numbers for the seeds.

    A batch is {"index": int64 (N,), "seed": int64 (N,)} and, where conditions were chosen, "condition": tensors by
    name, each of first dimension N. Rank r makes every W-th of the samples that are wanted, from the r-th on; so
    neither the batch size nor the number of ranks changes what sample i is.

    Args:
        count: How many samples there are to be, 1 … 2**32.
        batch_size: Samples made at a time on each device.
        seed: 0 … 2**31 - 1.
        skip: Numbers not wanted, because they are there already.
        conditions: What they are conditioned on; none: the method draws that itself.
    """

    def __init__(
        self,
        count: int,
        batch_size: int = 64,
        seed: int = 0,
        skip: Sequence[int] = (),
        conditions: Conditions | None = None,
    ) -> None:
        super().__init__()
        for name, value, least, most in (
            ("count", count, 1, MOST),
            ("batch_size", batch_size, 1, MOST),
            ("seed", seed, 0, SEEDS - 1),
        ):
            if not least <= value <= most:
                raise InputError(f"--data.{name} is {value}: choose one of {least} … {most}")
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.skip = frozenset(skip)
        self.conditions = conditions

    def predict_dataloader(self) -> "SeedBatches":
        """This rank's share.

        Raises:
            InputError: The method has no such conditions.
        """
        condition_of = self.conditions.of(self.trainer.lightning_module) if self.conditions and self.trainer else None
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        wanted = torch.tensor([index for index in range(self.count) if index not in self.skip], dtype=torch.int64)
        busiest = -(-len(wanted) // world_size)
        length = -(-busiest // self.batch_size)
        numbers = self.conditions.numbers if self.conditions else None
        return SeedBatches(wanted[rank::world_size], self.seed, self.batch_size, length, condition_of, numbers)

    def test_dataloader(self) -> "SeedBatches":
        """This rank's share."""
        return self.predict_dataloader()


class SeedBatches:
    """Batches of samples to be made. Not a DataLoader, so that Lightning does not shard them a second time.

    Args:
        indices: int64 (M,), the numbers of the samples.
        length: Batches that the busiest rank makes. That is the length on every rank: on a rank of length 0 Lightning
            would leave out the hooks around the loop, and their collectives would wait for it for ever.
        condition_of: What they are conditioned on; none: the method draws that itself.
        numbers: int64, by the number of a sample the one that its seed is made of; by default that itself.
    """

    def __init__(
        self,
        indices: Tensor,
        seed: int,
        batch_size: int,
        length: int,
        condition_of: ConditionOf | None = None,
        numbers: Tensor | None = None,
    ) -> None:
        self.indices = indices
        self.seed = seed
        self.batch_size = batch_size
        self.length = length
        self.condition_of = condition_of
        self.numbers = numbers

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for index in self.indices.split(self.batch_size) if len(self.indices) else ():
            number = index if self.numbers is None else self.numbers[index]
            batch: dict[str, Any] = {"index": index, "seed": self.seed * MOST + number}
            yield batch if self.condition_of is None else batch | {"condition": self.condition_of(index)}
