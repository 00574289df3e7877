"""What every data module of images shares: the endless training stream, validation, and the way to [-1, 1]."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tenshot.datamodules.batches import (
    CONDITION_IMAGE,
    Batch,
    EachOnce,
    EachOnceLoader,
    EndlessBatches,
    EndlessLoader,
    Labelled,
    Source,
)
from tenshot.datamodules.choice import BY_LISTING, BY_NAME, Record
from tenshot.datamodules.pairs import ConditionKind, ConditionReader
from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import InputError

__all__ = ["ImageDataModule"]


class ImageDataModule(LightningDataModule, ABC):
    """Base of the data modules. A subclass says in ``sources`` where the images come from.

    Training and validation batches arrive at the module as "image": float32 (N, 3, H, W) in [-1, 1], and "condition": a
    dictionary of what the source tells of the images besides, such as "label": int64 (N,), "depth": float32
    (N, C, H, W) in [-1, 1] or "mask": int64 (N, H, W).

    Args:
        batch_size: Images in a micro-batch of one rank.
        image_size: Height and width of the images.
        seed: Decides the order of the images and which are mirrored, together with the position in training.
        flip: Mirror each training image with probability one half.
        num_workers: Processes that prepare batches; 0 prepares them in the training process.

    Raises:
        InputError: a number is out of its range.
    """

    reader: ConditionReader | None = None
    """How conditions are read from files; None where there is none of that kind."""
    suffixes: Sequence[str] = ()
    """What the names of condition files have after those of their images; one for each part of the condition."""

    def __init__(self, batch_size: int, image_size: int | None, seed: int, flip: bool, num_workers: int) -> None:
        super().__init__()
        if image_size is None:
            raise InputError("--data.image_size is not set: give the side of the images in pixels")
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("image_size", image_size, 1),
            ("seed", seed, 0),
            ("num_workers", num_workers, 0),
        ):
            if value < least:
                raise InputError(f"--data.{name} is {value}: choose at least {least}")
        self.batch_size = batch_size
        self.image_size = image_size
        self.seed = seed
        self.flip = flip
        self.num_workers = num_workers
        self.recorded: Record | None = None
        """What the run that goes on, or is looked at, recorded of its data: it is used instead of choosing anew."""
        self.rule = BY_NAME
        """How images are chosen where nothing is recorded."""
        self._sources: tuple[Source, Source | None] | None = None

    @property
    def num_classes(self) -> int | None:
        """Number of classes that "label" counts; None where batches have no label."""
        return None

    @property
    def condition_channels(self) -> int | None:
        """Channels of "condition_image"; None where batches have none."""
        return None

    @property
    def condition_kind(self) -> ConditionKind | None:
        """What "condition_image" shows; None where batches have none."""
        return None

    @abstractmethod
    def sources(self) -> tuple[Source, Source | None]:
        """Open the training images and, if there are any, the validation images.

        Raises:
            InputError: no images, or an image that cannot be used.
        """

    @property
    def chooses(self) -> bool:
        """Whether images are chosen by a rule."""
        return False

    def data_record(self) -> Record:
        """What a run is to record of its data (docs/data.md); here, where nothing lies on a disk, only that."""
        return {"class": type(self).__name__, "rule": self.rule, "request": {}, "train": None, "val": None}

    def _in_force(self, request: Record) -> Record | None:
        """The record, where it is of this class and of the choice that is asked for.

        Args:
            request: The options that decide the choice.
        """
        recorded = self.recorded
        if recorded is None:
            return None
        theirs = {"class": recorded["class"], **recorded["request"]}
        ours = {"class": type(self).__name__, **request}
        if theirs != ours:
            self.recorded, self.rule = None, BY_NAME
            told = ", ".join(
                f"{name} {theirs.get(name)}, now {ours[name]}" for name in ours if theirs.get(name) != ours[name]
            )
            rank_zero_info(f"{type(self).__name__}: another choice of images than the run began with ({told})")
            return None
        self.rule = recorded["rule"]
        return recorded

    def setup(self, stage: str | None = None) -> None:
        """Open the sources, once, and log one line that says what they are."""
        if self._sources is None:
            self._sources = self.sources()
            train, val = self._sources
            size = f"{self.image_size} x {self.image_size}"
            validation = "none" if val is None else str(val)
            then = (
                "; chosen by place in the listing, as the run once did"
                if self.rule == BY_LISTING and self.chooses
                else ""
            )
            rank_zero_info(f"{type(self).__name__}: {train}; {size}; seed {self.seed}; validation: {validation}{then}")

    def require_same_on_all_ranks(self, stage: str | None, found: list[str], place: str) -> None:
        """Compare what the ranks have found; only where the trainer asks, which does so on all of them.

        Args:
            stage: As in ``setup``.
            found: Digests of what there is.
            place: Where it was found, for the error.

        Raises:
            InputError: the first rank has found something else.
        """
        if stage is None or self.trainer is None or self.trainer.world_size == 1:
            return
        strategy = self.trainer.strategy
        if not strategy.reduce_boolean_decision(strategy.broadcast(found) == found, all=True):
            raise InputError(
                f"{place} holds other images on one process than on the first: copy them to all nodes alike, "
                "then start again"
            )

    @property
    def train_source(self) -> Source:
        """The training images."""
        self.setup()
        assert self._sources is not None
        return self._sources[0]

    @property
    def val_source(self) -> Source | None:
        """The validation images, if there are any."""
        self.setup()
        assert self._sources is not None
        return self._sources[1]

    def train_classes(self) -> Tensor | None:
        """The class of every training image, in their order, without reading them: int64 (n,); None without labels."""
        source = self.train_source
        return source.class_numbers() if isinstance(source, Labelled) else None

    @property
    def truth(self) -> Source | None:
        """The true image of sample i as number i, for metrics that compare one by one; None where there is none."""
        return None

    def train_stream(self) -> EndlessBatches:
        """The rest of the training stream, from where the trainer stands (from its beginning without a trainer).

        Where the trainer has ``overfit_batches`` N, the stream's first N micro-batches again and again.
        """
        rank, world_size = self._rank()
        done = self.trainer.global_step * self.trainer.accumulate_grad_batches if self.trainer else 0
        among = int(self.trainer.overfit_batches) or None if self.trainer else None  # type: ignore[attr-defined]
        return EndlessBatches(
            self.train_source, self.batch_size, self.seed, self.flip, rank, world_size, start=done, among=among
        )

    def train_dataloader(self) -> EndlessLoader:
        """Endless micro-batches from where the trainer stands, so a resumed run sees what it would have seen."""
        return EndlessLoader(self.train_stream, self.num_workers)

    def val_dataloader(self) -> EachOnceLoader | list[EachOnceLoader]:
        """Every validation image once over all ranks; an empty list where there are none.

        Raises:
            InputError: fewer images than ranks; a rank without any would leave the others waiting for its losses.
        """
        if self.val_source is None:
            warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")  # it is no mistake
            return []
        rank, world_size = self._rank()
        if len(self.val_source) < world_size:
            raise InputError(
                f"there are fewer validation images ({self.val_source}) than processes ({world_size}): "
                "add images, use fewer processes, or set --trainer.limit_val_batches 0"
            )
        return EachOnceLoader(EachOnce(self.val_source, self.batch_size, rank, world_size), self.num_workers)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> dict[str, Any]:
        """On the device: mirror what "flip" says, drop "flip", bring uint8 to float32 in [-1, 1]; see the class.

        A condition image stays uint8, as networks that take one scale it themselves.
        """
        flip = batch.pop("flip", None)
        ready = {}
        for name, value in batch.items():
            value = _mirrored(value, flip) if flip is not None and value.ndim > 2 else value
            ready[name] = from_pixels(value) if value.dtype == torch.uint8 and name != CONDITION_IMAGE else value
        return {"image": ready.pop("image"), "condition": ready}

    def reference(self, count: int) -> Source | None:
        """Images of the domain to compare samples with: the validation images, however many there are.

        count: How many to draw, for data that can draw any number
        """
        return self.val_source

    def preview(self, count: int) -> Tensor:
        """The first ``count`` training images (fewer if there are fewer), unmirrored: (n, 3, H, W) in [-1, 1]."""
        return from_pixels(self.train_source.read(range(min(count, len(self.train_source))))["image"])

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def _mirrored(x: Tensor, flip: Tensor) -> Tensor:
    """x (N, …, W) with the samples that ``flip``, bool (N,), selects mirrored left to right."""
    return torch.where(flip.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
