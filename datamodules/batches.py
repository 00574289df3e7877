"""From a source of images to batches: which image comes when, on which rank, mirrored or not."""

import signal
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tenshot.datamodules.reading import ImageError
from tenshot.datamodules.refusals import Refusals
from tenshot.errors import InputError

__all__ = [
    "CONDITION_IMAGE", "Batch", "EachOnce", "EachOnceLoader", "EndlessBatches", "EndlessLoader", "Labelled", "Source",
]  # fmt: skip

CONDITION_IMAGE = "condition_image"
"""Name of what an image is to be made from: mask, sketch, depth or normals, uint8 (N, C, S, S)."""


Batch = dict[str, Tensor]
Item = Batch | tuple[Batch, list[ImageError]] | InputError
"""What a worker makes: a batch, with it the images first found beyond use, or the end."""


class Source(Protocol):
    """Images by number. ``str(source)`` says in a few words which ones, for the line logged at the start."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Batch:
        """The images of these numbers, in this order.

        Returns:
            "image": uint8 (N, 3, H, W); where there is one, "label": int64 (N,); and by their names other
            conditions: uint8 (N, C, H, W), or int64 (N, H, W) for a map of classes.

        Raises:
            InputError: an image cannot be read.
        """
        ...


@runtime_checkable
class Labelled(Protocol):
    """A source that may know classes without reading images."""

    def class_numbers(self) -> Tensor | None:
        """The class of every image, in their order: int64 (N,); None without labels."""
        ...


@runtime_checkable
class Forgiving(Protocol):
    """A source in which another image takes the place of one that cannot be used."""

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

    The images stand in one global stream: permutation after permutation of the whole source, permutation e drawn
    from (seed, e). Micro-batch b of rank r is the slice [(b * world_size + r) * batch_size, + batch_size) of it. So
    every rank gets other images, W ranks with batch B see together what one rank with batch W * B sees, and a source
    smaller than a batch simply comes round more than once within it.

    Args:
        flip: Add "flip", bool (N,): whether to mirror the image, with probability one half, drawn from
            (seed, position in the stream).
        start: First micro-batch, counted from the beginning of training.
        among: Repeat the first so many micro-batches for ever, to overfit them on purpose.
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
        among: int | None = None,
    ) -> None:
        self.source = source
        self.batch_size = batch_size
        self.seed = seed
        self.flip = flip
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.among = among
        self._drawn: tuple[int, np.ndarray, np.ndarray] | None = None

    def numbers(self) -> Iterable[int]:
        """start, start + 1, …, modulo ``among`` where it is given."""
        return count(self.start) if self.among is None else (number % self.among for number in count(self.start))

    def batch(self, number: int) -> Batch:
        """Micro-batch ``number`` of this rank."""
        first = (number * self.world_size + self.rank) * self.batch_size
        drawn = [self._draw(position) for position in range(first, first + self.batch_size)]
        batch = self.source.read([index for index, _ in drawn])
        if self.flip:
            batch["flip"] = torch.tensor([mirrored for _, mirrored in drawn])
        return batch

    def _draw(self, position: int) -> tuple[int, bool]:
        """Which image stands at this position of the global stream, and whether it is mirrored."""
        epoch, place = divmod(position, len(self.source))
        if self._drawn is None or self._drawn[0] != epoch:
            generator = np.random.default_rng((self.seed, epoch))
            order = generator.permutation(len(self.source))
            self._drawn = (epoch, order, generator.random(len(self.source)) < 0.5)
        return int(self._drawn[1][place]), bool(self._drawn[2][place])


class EachOnce(Batches):
    """Every image exactly once over all ranks, unmirrored: rank r takes r, r + W, …, with no padding."""

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


class Loader:
    """What the trainer iterates over. Not a DataLoader, so that Lightning leaves order and sharding alone.

    A process that prepares batches may die (the system kills it where memory runs out). The rest of its batches, which
    are functions of their numbers, are then made in this process, and ``failure`` says so: a run can end in good order.
    """

    failure: str | None = None
    """What ended the processes that prepare batches."""

    def _surfaced(self, loader: Iterable[Item], batches: Batches, source: Source) -> Iterator[Batch]:
        """The batches; images that workers found beyond use are counted, an InputError of theirs is raised here."""
        done = 0
        try:
            items = iter(loader)
            _raise_when_awaited()
            for item in items:
                if isinstance(item, InputError):
                    raise item
                if not isinstance(item, dict):  # a DataLoader makes lists of tuples
                    item, refused = item
                    assert isinstance(source, Forgiving)
                    for one in refused:
                        source.refusals.add(one)
                yield item
                done += 1
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error):
                raise
            self.failure = (
                f"a process that prepares batches died ({' '.join(str(error).split())}; if memory ran out, lower "
                "--data.num_workers or --data.batch_size)"
            )
            for number in islice(batches.numbers(), done, None):
                yield batches.batch(number)


class EndlessLoader(Loader):
    """The training stream as ``open_stream`` gives it when iteration begins."""

    def __init__(self, open_stream: Callable[[], EndlessBatches], num_workers: int) -> None:
        self.open_stream = open_stream
        self.num_workers = num_workers

    def __iter__(self) -> Iterator[Batch]:
        stream = self.open_stream()
        return self._surfaced(_data_loader(stream, self.num_workers, persistent=False), stream, stream.source)


class EachOnceLoader(Loader):
    """The validation images; the workers live on from one validation to the next."""

    def __init__(self, batches: EachOnce, num_workers: int) -> None:
        self.batches = batches
        self._loader = _data_loader(batches, num_workers, persistent=num_workers > 0)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return self._surfaced(self._loader, self.batches, self.batches.source)


def _raise_when_awaited() -> None:
    """Have the death of a process reported where its batch is awaited, not in the middle of an optimiser step.

    PyTorch's handler of SIGCHLD raises wherever the main thread is; waiting for a batch finds out too.
    """
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGCHLD)
        if getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling":
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _data_loader(batches: Batches, num_workers: int, persistent: bool) -> DataLoader:
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=persistent,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else every iteration would draw from the global generator
    )
