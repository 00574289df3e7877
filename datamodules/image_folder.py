"""ImageFolder: a large set of pictures, read from their files during training."""

from functools import cached_property
from pathlib import Path

import numpy as np

from tenshot.datamodules.base import Pictures
from tenshot.datamodules.batches import Source
from tenshot.datamodules.reading import list_pictures
from tenshot.datamodules.sources import FileSource
from tenshot.errors import InputError, did_you_mean

__all__ = ["ImageFolder"]


class ImageFolder(Pictures):
    """All pictures in a folder and the folders below it, decoded by workers while training runs.

    Args:
        root: Folder of pictures.
        image_size: Height and width; the short side is scaled to it and the centre cropped. The command line takes
            that of the network where it is not given.
        batch_size: Pictures a step on each device.
        labels: Take the class of a picture from the folder right below ``root`` it lies in, numbered in sorted order.
        val_fraction: Part of the pictures, drawn by the seed, kept out of training for validation.
        val_root: Folder of validation pictures, with the same class folders if there are labels.
        num_workers: Processes that decode; about one a free core.
        flip: Mirror each training picture with probability one half.
        seed: Draws the validation pictures and decides the order and mirroring in training.
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
    ) -> None:
        super().__init__(batch_size, image_size, seed, flip, num_workers)
        if not 0 <= val_fraction < 1:
            raise InputError(f"--data.val_fraction is {val_fraction}: choose a part of the pictures, 0 up to below 1")
        if val_fraction and val_root is not None:
            raise InputError("--data.val_fraction and --data.val_root are both given: drop one")
        self.root = root
        self.labels = labels
        self.val_fraction = val_fraction
        self.val_root = val_root

    @cached_property
    def files(self) -> list[Path]:
        """All pictures under ``root``, sorted."""
        return list_pictures(self.root, "--data.root")

    @cached_property
    def class_names(self) -> list[str]:
        """The class folders, in the order of their numbers; empty without labels."""
        return sorted({self._class_of(file, self.root) for file in self.files}) if self.labels else []

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None without labels."""
        return len(self.class_names) if self.labels else None

    def sources(self) -> tuple[Source, Source | None]:
        """Training and validation pictures, listed but not yet read.

        Raises:
            InputError: no or a single picture, or a picture outside the class folders.
        """
        files = self.files
        if len(files) == 1:
            raise InputError(
                f"{self.root} holds a single picture ({files[0].name}): add pictures, "
                "or adapt to it with --data FewShot --data.shots 1"
            )
        if self.val_root is not None:
            held_out = list_pictures(self.val_root, "--data.val_root")
            return self._source(files, self.root), self._source(held_out, self.val_root)
        drawn = np.random.default_rng(self.seed).permutation(len(files))
        kept = max(1, round(self.val_fraction * len(files))) if self.val_fraction else 0
        if kept == len(files):
            raise InputError(
                f"--data.val_fraction {self.val_fraction} leaves no training picture in {self.root}: lower it"
            )
        train = [files[index] for index in sorted(drawn[kept:])]
        val = [files[index] for index in sorted(drawn[:kept])]
        return self._source(train, self.root), self._source(val, self.root) if val else None

    def _source(self, files: list[Path], root: str) -> FileSource:
        title = f"{len(files)} pictures in {root}"
        if not self.labels:
            return FileSource(files, self.image_size, title)
        number = {name: index for index, name in enumerate(self.class_names)}
        labels = []
        for file in files:
            name = self._class_of(file, root)
            if name not in number:
                raise InputError(
                    f"{file} is of class {name!r}, which {self.root} lacks{did_you_mean(name, number)}: "
                    "rename the folder or add training pictures"
                )
            labels.append(number[name])
        return FileSource(files, self.image_size, f"{title}, {len(number)} classes", labels)

    @staticmethod
    def _class_of(file: Path, root: str) -> str:
        below = file.relative_to(root).parts
        if len(below) == 1:
            raise InputError(f"{file} lies in no class folder: move it into one below {root}, or drop --data.labels")
        return below[0]
