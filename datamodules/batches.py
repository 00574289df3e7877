"""From a source of pictures to batches: which picture comes when, on which rank, mirrored or not."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tenshot.datamodules.reading import PictureError
from tenshot.datamodules.refusals import Refusals
from tenshot.errors import InputError

__all__ = ["Batch", "EachOnce", "EachOnceLoader", "EndlessBatches", "EndlessLoader", "Source"]

Batch = dict[str, Tensor]
Item = Batch | tuple[Batch, list[PictureError]] | InputError
"""What a worker makes: a batch, with it the pictures first found beyond use, or the end."""


class Source(Protocol):
    """Pictures by number. ``str(source)`` says in a few words which ones, for the line logged at the start."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Batch:
        """The pictures of these numbers, in this order.

        Returns:
            "image": uint8 (N, 3, H, W); where there is one, "label": int64 (N,); where there is one,
            "condition": uint8 (N, C, H, W), or int64 (N, H, W) for a map of classes.

        Raises:
            InputError: a picture cannot be read.
        """
        ...


@runtime_checkable
class Forgiving(Protocol):
    """A source in which another picture takes the place of one that cannot be used."""

    refusals: Refusals


class Batches(IterableDataset[Batch]):
    """Numbered whole batches; DataLoader worker w of W makes the numbers w, w + W, … so the order needs no luck."""

    source: Source

    @abstractmethod
    def numbers(self) -> Iterable[int]:
        """The numbers of the batches, in order."""

    @abstractmethod
    def batch(self, number: int) -> Batch:
        """One batch, a function of its number alone."""

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        """The batches of this worker; a worker hands an InputError over as an item and stops.

        A raised one would reach the main process with a traceback glued into its message (see ``_surfaced``).
        """
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in islice(self.numbers(), first, None, step):
            try:
                batch = self.batch(number)
                refused = self.source.refusals.gathered() if isinstance(self.source, Forgiving) else []
                yield (batch, refused) if refused else batch
            except InputError as error:
                if worker is None:
                    raise
                yield error
                return


class EndlessBatches(Batches):
    """Training batches without end, a pure function of (seed, position).

    The pictures stand in one global stream: permutation after permutation of the whole source, permutation e drawn
    from (seed, e). Micro-batch b of rank r is the slice [(b * world_size + r) * batch_size, + batch_size) of it. So
    every rank gets other pictures, W ranks with batch B see together what one rank with batch W * B sees, and a source
    smaller than a batch simply comes round more than once within it.

    Args:
        flip: Add "flip", bool (N,): whether to mirror the picture, with probability one half, drawn from
            (seed, position in the stream).
        start: First micro-batch, counted from the beginning of training.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int,
        flip: bool,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        self.source = source
        self.batch_size = batch_size
        self.seed = seed
        self.flip = flip
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self._drawn: tuple[int, np.ndarray, np.ndarray] | None = None

    def numbers(self) -> Iterable[int]:
        """start, start + 1, …"""
        return count(self.start)

    def batch(self, number: int) -> Batch:
        """Micro-batch ``number`` of this rank."""
        first = (number * self.world_size + self.rank) * self.batch_size
        drawn = [self._draw(position) for position in range(first, first + self.batch_size)]
        batch = self.source.read([index for index, _ in drawn])
        if self.flip:
            batch["flip"] = torch.tensor([mirrored for _, mirrored in drawn])
        return batch

    def _draw(self, position: int) -> tuple[int, bool]:
        """Which picture stands at this position of the global stream, and whether it is mirrored."""
        epoch, place = divmod(position, len(self.source))
        if self._drawn is None or self._drawn[0] != epoch:
            generator = np.random.default_rng((self.seed, epoch))
            order = generator.permutation(len(self.source))
            self._drawn = (epoch, order, generator.random(len(self.source)) < 0.5)
        return int(self._drawn[1][place]), bool(self._drawn[2][place])


class EachOnce(Batches):
    """Every picture exactly once over all ranks, unmirrored: rank r takes r, r + W, …, with no padding."""

    def __init__(self, source: Source, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.source = source
        self.batch_size = batch_size
        self.share = range(rank, len(source), world_size)

    def __len__(self) -> int:
        return -(-len(self.share) // self.batch_size)

    def numbers(self) -> Iterable[int]:
        """0, …, len - 1."""
        return range(len(self))

    def batch(self, number: int) -> Batch:
        """Batch ``number`` of this rank; the last may be shorter."""
        return self.source.read(self.share[number * self.batch_size : (number + 1) * self.batch_size])


class EndlessLoader:
    """What the trainer iterates over in training: the stream as ``open_stream`` gives it when iteration begins.

    Neither this nor ``EachOnceLoader`` is a DataLoader, so that Lightning leaves order and sharding alone.
    """

    def __init__(self, open_stream: Callable[[], EndlessBatches], num_workers: int) -> None:
        self.open_stream = open_stream
        self.num_workers = num_workers

    def __iter__(self) -> Iterator[Batch]:
        stream = self.open_stream()
        return _surfaced(_data_loader(stream, self.num_workers, persistent=False), stream.source)


class EachOnceLoader:
    """What the trainer iterates over in validation; the workers live on from one validation to the next."""

    def __init__(self, batches: EachOnce, num_workers: int) -> None:
        self.batches = batches
        self._loader = _data_loader(batches, num_workers, persistent=num_workers > 0)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return _surfaced(self._loader, self.batches.source)


def _data_loader(batches: Batches, num_workers: int, persistent: bool) -> DataLoader:
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=persistent,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else every iteration would draw from the global generator
    )


def _surfaced(items: Iterable[Item], source: Source) -> Iterator[Batch]:
    """The batches; pictures that workers found beyond use are counted, an InputError of theirs is raised here."""
    for item in items:
        if isinstance(item, InputError):
            raise item
        if not isinstance(item, dict):  # a DataLoader makes lists of tuples
            item, refused = item
            assert isinstance(source, Forgiving)
            for one in refused:
                source.refusals.add(one)
        yield item
