"""FewShot: the about ten pictures that a generator is adapted to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tenshot.datamodules.base import Pictures
from tenshot.datamodules.batches import Source
from tenshot.datamodules.reading import MOST_PIXELS, list_pictures, read_picture, short
from tenshot.datamodules.sources import FileSource, MemorySource
from tenshot.errors import InputError, did_you_mean

__all__ = ["FewShot"]


class FewShot(Pictures):
    """A few pictures from a folder, all checked and decoded into memory before training starts.

    Args:
        root: Folder of pictures (folders below it included), or a list of picture files.
        shots: How many to take, drawn by the seed; all of them by default.
        names: Take exactly these files, named relative to the folder, instead of drawing.
        seed: Draws the shots and decides their order and mirroring in training.
        image_size: Height and width; the short side is scaled to it and the centre cropped. The command line takes
            that of the network where it is not given.
        batch_size: Pictures a step on each device; it may well be larger than the number of shots.
        flip: Mirror each training picture with probability one half.
        val_root: Folder (or list) of other pictures of the domain, for validation.
        num_workers: Processes that read validation pictures and prepare batches; the shots need none.
        max_pixels: A picture with more pixels than this is not decoded.
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
        self.shots = shots
        self.names = names
        self.val_root = val_root

    def sources(self) -> tuple[Source, Source | None]:
        """The shots, in memory; validation pictures are read when they are wanted.

        Raises:
            InputError: the folder does not hold what is asked for, or a chosen picture cannot be used.
        """
        files = list_pictures(self.root, "--data.root")
        chosen = self._by_name(files, self.names) if self.names is not None else self._by_seed(files)
        images = torch.stack([read_picture(file, self.image_size, self.max_pixels) for file in chosen])
        train = MemorySource(images, f"{len(chosen)} of {len(files)} pictures in {short(self.root)}")
        if self.val_root is None:
            return train, None
        held_out = list_pictures(self.val_root, "--data.val_root")
        title = f"{len(held_out)} pictures in {short(self.val_root)}"
        return train, FileSource(held_out, self.image_size, title, self.max_pixels)

    def _by_seed(self, files: list[Path]) -> list[Path]:
        """``shots`` of the files in their order; fewer shots of the same seed are a subset of more."""
        if self.shots is None:
            if len(files) == 1:
                raise InputError(
                    f"{short(self.root)} holds a single picture ({files[0].name}): "
                    "add pictures, or set --data.shots 1 to adapt to this one alone"
                )
            return files
        if self.shots > len(files):
            raise InputError(
                f"--data.shots is {self.shots}, but {short(self.root)} holds {len(files)}: "
                f"add pictures or set --data.shots to at most {len(files)}"
            )
        drawn = np.random.default_rng(self.seed).permutation(len(files))[: self.shots]
        return [files[index] for index in sorted(drawn)]

    def _by_name(self, files: list[Path], names: Sequence[str]) -> list[Path]:
        """The files of these names, in the order given."""
        if not names:
            raise InputError("--data.names is an empty list: name at least one file, or leave it out to take all")
        folder = Path(self.root) if not isinstance(self.root, list) else None
        known = {file.relative_to(folder).as_posix() if folder else file.name: file for file in files}
        for name in names:
            if name not in known:
                raise InputError(
                    f"--data.names has {name!r}, which is not in {short(self.root)}{did_you_mean(name, known)}: "
                    "name a file of it"
                )
            if names.count(name) > 1:
                raise InputError(f"--data.names has {name!r} more than once: name each file once")
        return [known[name] for name in names]
