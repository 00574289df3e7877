"""FewShot: the about ten images that a generator is adapted to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from tenshot.datamodules.base import ImageDataModule
from tenshot.datamodules.batches import Source
from tenshot.datamodules.choice import BY_LISTING, Listed, Record, digest_of, first_by_name, part_of, recorded_rows
from tenshot.datamodules.conventions import FITTING
from tenshot.datamodules.reading import MOST_PIXELS, file_bytes, list_images, read_image, short
from tenshot.datamodules.sources import FileSource, MemorySource
from tenshot.errors import InputError, did_you_mean

__all__ = ["FewShot"]


class FewShot(ImageDataModule):
    """A few images from a folder, all checked and decoded into memory before training starts.

    Args:
        root: Folder of images (folders below it included), or a list of image files.
        shots: How many to take, by a hash of their names with the seed; all of them by default.
        names: Take exactly these files, named relative to the folder, instead of drawing.
        seed: Chooses the shots and decides their order and mirroring in training.
        image_size: Height and width; the short side is scaled to it and the centre cropped. The command line takes
            that of the network where it is not given.
        batch_size: Images a step on each device; it may well be larger than the number of shots.
        flip: Mirror each training image with probability one half.
        val_root: Folder (or list) of other images of the domain, for validation.
        num_workers: Processes that read validation images and prepare batches; the shots need none.
        max_pixels: An image with more pixels than this is not decoded.
        convention: How images are resized: ``adm`` as guided-diffusion and DDPM-PA do, by halving and then bicubic;
            ``cdc`` as rosinality's StyleGAN2, CDC and MixDL do, by Lanczos. Both crop the centre.
    """

    def __init__(
        self,
        root: str | list[str],
        shots: int | None = None,
        names: list[str] | None = None,
        seed: int = 0,
        image_size: int | None = None,
        batch_size: int = 16,
        flip: bool = True,
        val_root: str | list[str] | None = None,
        num_workers: int = 0,
        max_pixels: int = MOST_PIXELS,
        convention: Literal["adm", "cdc"] = "adm",
    ) -> None:
        super().__init__(batch_size, image_size, seed, flip, num_workers)
        if shots is not None and names is not None:
            raise InputError("--data.shots and --data.names are both given: drop one, names already say how many")
        if shots is not None and shots < 1:
            raise InputError(f"--data.shots is {shots}: ask for at least 1")
        if max_pixels < 1:
            raise InputError(f"--data.max_pixels is {max_pixels}: choose at least 1")
        self.root = root
        self.max_pixels = max_pixels
        self.fit = FITTING[convention]
        self.shots = shots
        self.names = names
        self.val_root = val_root
        self._parts: tuple[tuple[Listed, list[int]], tuple[Listed, list[int] | None] | None]
        self._kept: Record | None = None

    def sources(self) -> tuple[Source, Source | None]:
        """The shots, in memory; validation images are read when they are wanted.

        Raises:
            InputError: the folder does not hold what is asked for, or a chosen image cannot be used.
        """
        files = list_images(self.root, "--data.root")
        listed, record = _listed(files, self.root), self._in_force(self._request())
        rows = recorded_rows(record["train"], listed) if record else None
        if rows is None:
            record, rows = None, self._by_name(files) if self.names is not None else self._by_seed(files)
        self._kept = record
        images = torch.stack([read_image(files[row], self.image_size, self.max_pixels, self.fit) for row in rows])
        train = MemorySource(images, f"{len(rows)} of {len(files)} images in {short(self.root)}")
        if self.val_root is None:
            self._parts = (listed, rows), None
            return train, None
        held_out = list_images(self.val_root, "--data.val_root")
        others = _listed(held_out, self.val_root)
        val_rows = recorded_rows(record["val"], others) if record and record["val"] else None
        self._parts = (listed, rows), (others, val_rows)
        held_out = held_out if val_rows is None else [held_out[row] for row in val_rows]
        title = f"{len(held_out)} images in {short(self.val_root)}"
        return train, FileSource(held_out, self.image_size, title, self.max_pixels, self.fit)

    @property
    def chooses(self) -> bool:
        """Whether the rule decides."""
        return self.shots is not None

    def data_record(self) -> Record:
        """The shots and the validation images, by name and content."""
        self.setup()
        if self._kept is not None:
            return self._kept
        (train, val), request = self._parts, self._request()
        about = {"class": type(self).__name__, "rule": self.rule, "request": request}
        self._kept = about | {"train": part_of(*train), "val": part_of(*val) if val else None}
        return self._kept

    def _request(self) -> Record:
        return {"shots": self.shots, "names": self.names, "seed": self.seed}

    def _by_seed(self, files: list[Path]) -> list[int]:
        """Which ``shots`` of the files; fewer shots of the same seed are a subset of more."""
        if self.shots is None:
            if len(files) == 1:
                raise InputError(
                    f"{short(self.root)} holds a single image ({files[0].name}): "
                    "add images, or set --data.shots 1 to adapt to this one alone"
                )
            return list(range(len(files)))
        if self.shots > len(files):
            raise InputError(
                f"--data.shots is {self.shots}, but {short(self.root)} holds {len(files)}: "
                f"add images or set --data.shots to at most {len(files)}"
            )
        if self.rule == BY_LISTING:
            return sorted(np.random.default_rng(self.seed).permutation(len(files))[: self.shots].tolist())
        names = [file.name for file in files] if isinstance(self.root, list) else _listed(files, self.root).names()
        return list(first_by_name(names, self.seed, self.shots).tolist())

    def _by_name(self, files: list[Path]) -> list[int]:
        """Which files have the names asked for, in the order given."""
        names: Sequence[str] = self.names or ()
        if not names:
            raise InputError("--data.names is an empty list: name at least one file, or leave it out to take all")
        folder = Path(self.root) if not isinstance(self.root, list) else None
        known = {file.relative_to(folder).as_posix() if folder else file.name: row for row, file in enumerate(files)}
        for name in names:
            if name not in known:
                raise InputError(
                    f"--data.names has {name!r}, which is not in {short(self.root)}{did_you_mean(name, known)}: "
                    "name a file of it"
                )
            if names.count(name) > 1:
                raise InputError(f"--data.names has {name!r} more than once: name each file once")
        return [known[name] for name in names]


def _listed(files: list[Path], root: str | list[str]) -> Listed:
    """The files, by their names in the folder; those of a list in full."""
    if isinstance(root, list):
        names, place = [str(file.resolve()) for file in files], "a list of files"
    else:
        names, place = [file.relative_to(root).as_posix() for file in files], str(Path(root).resolve())
    return Listed(place, len(files), digest_of(names), lambda: names, lambda row: file_bytes(files[row]))
