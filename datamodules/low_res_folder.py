"""A folder of small images that are to be enlarged."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tenshot.datamodules.pixels import from_pixels
from tenshot.datamodules.reading import file_bytes, list_images, opened
from tenshot.errors import InputError

__all__ = ["LowResFolder"]


class LowResFolder:
    """Small images, number i the i-th file by name, or of those names that are given; nothing is resized.

    Args:
        root: The folder; folders below it are looked into too.
        size: Height and width that all images must have.
        option: That names the folder, for messages.
        names: Of the files, below the folder; others are passed over. None: all that are there.

    Raises:
        InputError: There are no images, one of those names is not there, or one is no RGB image of that size.
    """

    def __init__(self, root: str, size: int, option: str, names: Sequence[str] | None = None) -> None:
        self.root, self.files = root, list_images(root, option)
        if names is not None:
            self.files = [Path(root) / name for name in names]
            missing = [name for name, file in zip(names, self.files, strict=True) if not file.is_file()]
            if missing:
                raise InputError(
                    f"{root} has no {missing[0]} ({len(missing)} of {len(names)} are missing): each condition takes a "
                    "small image of its name, as predict draws them from the same conditions"
                )
        for file in self.files:
            _refuse_unfit(file, size)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Sequence[int]) -> Tensor:
        """The images of these numbers: (N, 3, size, size) float32 in [-1, 1].

        Raises:
            InputError: One is damaged or animated.
        """
        images = (opened(file_bytes(self.files[index]), str(self.files[index])) for index in indices)
        return torch.stack([from_pixels(torch.from_numpy(np.array(image)).permute(2, 0, 1)) for image in images])

    def digests(self) -> list[str]:
        """The first sixteen hexadecimal digits of the hash of each file."""
        return [hashlib.sha256(file_bytes(file)).hexdigest()[:16] for file in self.files]

    @cached_property
    def sha256(self) -> str:
        """Of the names and the bytes of all images, so that samples of others are told apart."""
        digest = hashlib.sha256()
        for file in self.files:
            data = file_bytes(file)
            digest.update(f"{file.relative_to(self.root)} {len(data)}\n".encode() + data)
        return digest.hexdigest()


def _refuse_unfit(file: Path, size: int) -> None:
    try:
        with Image.open(file) as image:
            (width, height), mode, seen_through = image.size, image.mode, image.has_transparency_data
    except OSError:
        raise InputError(f"{file} cannot be read as an image: replace it or take it out") from None
    if mode != "RGB" or seen_through:
        raise InputError(f"{file} is in colour mode {mode}, not RGB without transparency: convert it")
    if (width, height) != (size, size):
        shape = "" if width == height else ", which is not square"
        raise InputError(
            f"{file} is {width} x {height}{shape}: the stage enlarges {size} x {size}, resize or crop all images to it"
        )
