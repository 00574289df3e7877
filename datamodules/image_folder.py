"""ImageFolder: a large set of images, read from files or archives during training."""

import hashlib
import os
from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from tenshot.datamodules.base import ImageDataModule
from tenshot.datamodules.batches import Source
from tenshot.datamodules.choice import BY_LISTING, Listed, Record, held_out_by_name, part_of, recorded_rows
from tenshot.datamodules.index import ImageIndex, open_index
from tenshot.datamodules.reading import MOST_PIXELS
from tenshot.datamodules.refusals import Refusals
from tenshot.datamodules.sources import IndexedSource
from tenshot.errors import InputError, did_you_mean

__all__ = ["ImageFolder"]

Rows = Sequence[int] | np.ndarray | None
"""Of an index; all of them where there are none."""


class ImageFolder(ImageDataModule):
    """All images in a folder and the folders below it, or in archives, decoded by workers while training runs.

    Their list is made once and kept (docs/data.md), so that starting again, or on many ranks, lists nothing.

    Args:
        root: Folder of images, a .zip or a .tar of them, a folder of such archives, or a pattern of them
            ("shards/train-*.tar").
        image_size: Height and width; the short side is scaled to it and the centre cropped. The command line takes
            that of the network where it is not given.
        batch_size: Images a step on each device.
        labels: Take the class of an image from the folder right below ``root`` it lies in, numbered in sorted order;
            where there is a dataset.json of StyleGAN2-ADA from that, in WebDataset shards from the .cls file beside it.
        val_fraction: Part of the images kept out of training for validation, chosen by a hash of their names with the
            seed, so that an image more moves no other.
        val_root: Folder or archives of validation images, with the same class folders if there are labels.
        num_workers: Processes that decode; about one a free core.
        flip: Mirror each training image with probability one half.
        seed: Chooses the validation images and decides the order and mirroring in training.
        max_unusable: How many images each process may meet that cannot be used, because they are broken, transparent,
            too small or too large: each is named, and another takes its place, the same one on every rank and in a
            resumed run. One more stops the run.
        max_pixels: An image with more pixels than this is not decoded.
    """

    def __init__(
        self,
        root: str,
        image_size: int | None = None,
        batch_size: int = 16,
        labels: bool = False,
        val_fraction: float = 0.0,
        val_root: str | None = None,
        num_workers: int = 2,
        flip: bool = True,
        seed: int = 0,
        max_unusable: int = 100,
        max_pixels: int = MOST_PIXELS,
    ) -> None:
        super().__init__(batch_size, image_size, seed, flip, num_workers)
        if not 0 <= val_fraction < 1:
            raise InputError(f"--data.val_fraction is {val_fraction}: choose a part of the images, 0 up to below 1")
        if val_fraction and val_root is not None:
            raise InputError("--data.val_fraction and --data.val_root are both given: drop one")
        for name, value, least in (("max_unusable", max_unusable, 0), ("max_pixels", max_pixels, 1)):
            if value < least:
                raise InputError(f"--data.{name} is {value}: choose at least {least}")
        self.root = root
        self.max_pixels = max_pixels
        self.refusals = Refusals(max_unusable, "--data.max_unusable")
        self.labels = labels
        self.val_fraction = val_fraction
        self.val_root = val_root
        self._parts: tuple[tuple[Listed, Rows], tuple[Listed, Rows] | None]
        self._kept: Record | None = None

    @cached_property
    def index(self) -> ImageIndex:
        """All images at ``root``."""
        return open_index(self.root, "--data.root")

    @cached_property
    def val_index(self) -> ImageIndex | None:
        """All images at ``val_root``."""
        return None if self.val_root is None else open_index(self.val_root, "--data.val_root")

    @property
    def class_names(self) -> list[str]:
        """The classes, in the order of their numbers, as a run has recorded them; empty without labels."""
        if not self.labels:
            return []
        kept = self.recorded.get("classes") if self.recorded and self.recorded["class"] == type(self).__name__ else None
        return self.index.classes if kept is None else list(kept)

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None without labels."""
        return len(self.class_names) if self.labels else None

    def prepare_data(self) -> None:
        """On the first rank of each node: list the images, where that was not done before. The others wait."""
        _ = self.index, self.val_index

    def setup(self, stage: str | None = None) -> None:
        """Open the sources, and make sure that all ranks found the same images.

        Raises:
            InputError: the images differ between nodes, or changed while the run was starting.
        """
        opened = self._sources is not None
        super().setup(stage)
        if not opened:
            self._say_labels()
        own = [index.digest for index in (self.index, self.val_index) if index]
        self.require_same_on_all_ranks(stage, own, self.root)

    def sources(self) -> tuple[Source, Source | None]:
        """Training and validation images, listed but not yet read.

        Raises:
            InputError: no or a single image, or an image outside the class folders.
        """
        index, count = self.index, len(self.index)
        if count == 1:
            raise InputError(
                f"{self.root} holds a single image ({index.name(0)}): add images, "
                "or adapt to it with --data FewShot --data.shots 1"
            )
        listed, record = _listed(index, self.root), self._in_force(self._request())
        train: Rows = recorded_rows(record["train"], listed) if record else None
        val: Rows = None
        if self.val_index is not None:
            others = _listed(self.val_index, self.val_root or "")
            val = recorded_rows(record["val"], others) if record and record["val"] else None
            self._parts = (listed, train), (others, val)
            self._kept = record if train is not None and val is not None else None
            return self._source(index, self.root, train), self._source(self.val_index, self.val_root or "", val)
        if not self.val_fraction:
            self._parts, self._kept = ((listed, train), None), record if train is not None else None
            return self._source(index, self.root, train), None
        kept = recorded_rows(record["val"], listed) if record and record["val"] else None
        held_out = self._held_out() if kept is None else np.isin(np.arange(count), kept)
        if held_out.all():
            raise InputError(
                f"--data.val_fraction {self.val_fraction} leaves no training image in {self.root}: lower it"
            )
        self._kept = record if train is not None and kept is not None else None
        train = np.flatnonzero(~held_out) if train is None else train
        val = np.flatnonzero(held_out)
        self._parts = (listed, train), (listed, val)
        return self._source(index, self.root, train), self._source(index, self.root, val)

    @property
    def chooses(self) -> bool:
        """Whether the rule decides."""
        return self.val_fraction > 0

    def data_record(self) -> Record:
        """Which images are trained on and which are held out; of a large set a digest."""
        self.setup()
        if self._kept is not None:
            return self._kept
        (train, val), request = self._parts, self._request()
        classes = self.class_names if self.labels else None
        about = {"class": type(self).__name__, "rule": self.rule, "request": request, "classes": classes}
        self._kept = about | {"train": part_of(*train), "val": part_of(*val) if val else None}
        return self._kept

    def _request(self) -> Record:
        return {"val_fraction": self.val_fraction, "seed": self.seed}

    def _held_out(self) -> np.ndarray:
        """Which images are kept for validation: bool (N,)."""
        index, count = self.index, len(self.index)
        if self.rule == BY_LISTING:
            drawn = np.random.default_rng(self.seed).permutation(count)
            return np.isin(np.arange(count), drawn[: max(1, round(self.val_fraction * count))])
        names = (index.name(row).removeprefix(index.prefix) for row in range(count))
        return held_out_by_name(names, self.seed, self.val_fraction)

    def _source(self, index: ImageIndex, root: str, rows: Rows = None) -> IndexedSource:
        rows = None if rows is None else np.asarray(rows, dtype=np.int64)
        title = f"{len(index if rows is None else rows)} images in {root}"
        if not self.labels:
            return IndexedSource(index, self.image_size, title, rows, None, self.max_pixels, self.refusals)
        if index.labels_problem:
            raise InputError(f"{index.labels_from} {index.labels_problem}: mend it, or drop --data.labels")
        used = np.arange(len(index)) if rows is None else rows
        labels, number = index.entries["label"][used], {name: place for place, name in enumerate(self.class_names)}
        if (labels < 0).any():
            first = index.title(int(used[np.argmax(labels < 0)]))
            if index.labels_from:
                raise InputError(f"{first} has no class in {index.labels_from}: give it one, or drop --data.labels")
            raise InputError(f"{first} lies in no class folder: move it into one below {root}, or drop --data.labels")
        for place, name in enumerate(index.classes):
            if name not in number and (labels == place).any():
                first = index.title(int(used[np.argmax(labels == place)]))
                raise InputError(
                    f"{first} is of class {name!r}, which {self.root} lacks{did_you_mean(name, number)}: "
                    "rename the folder or add training images"
                )
        classes = np.array([number.get(name, -1) for name in index.classes], dtype=np.int64)
        title += f", {len(number)} classes"
        return IndexedSource(index, self.image_size, title, rows, classes, self.max_pixels, self.refusals)

    def _say_labels(self) -> None:
        """One line where files that may tell classes are not used."""
        for index in (self.index, self.val_index):
            if index is None:
                continue
            if index.labels_from and not self.labels:
                told = index.labels_problem or f"tells {len(index.classes)} classes"
                rank_zero_info(f"{index.labels_from} {told}; they are not used (--data.labels true takes them)")
            if index.other_label_files:
                more = f" and {len(index.other_label_files) - 1} more" if len(index.other_label_files) > 1 else ""
                rank_zero_info(f"{index.other_label_files[0]}{more}: labels in there are not used")


def _listed(index: ImageIndex, root: str) -> Listed:
    """The images of an index, by their names in the folder or the archives."""
    digest = hashlib.sha256(index.entries["length"].tobytes() + index.names.tobytes()).hexdigest()
    names = cache(lambda: [index.name(row) for row in range(len(index))])
    return Listed(os.path.abspath(root), len(index), digest, names, index.read)
