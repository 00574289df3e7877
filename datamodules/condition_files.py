"""Condition images in files, from each of which images are to be drawn."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tenshot.datamodules.base import ImageDataModule
from tenshot.datamodules.pairs import PARTS, ConditionReader, require_edge_detector
from tenshot.datamodules.pairs.masks import palette_in_use
from tenshot.datamodules.pairs.matching import Part, named_alike, plural
from tenshot.datamodules.reading import ImageError, opened, require_size
from tenshot.errors import InputError

__all__ = ["ConditionFiles", "condition_files", "sha256_of"]


class ConditionFiles:
    """Masks, sketches, depth or normals in a folder, number i the i-th by name.

    Args:
        parts: For each part of the condition its files.
        names: Of the conditions: those of the files without their ending, with the folders below the root.
        reader: Reads them.
        option: That names the folder, for messages.
        of_photos: Whether the files are photographs, of whose edges sketches are made.
    """

    def __init__(
        self, parts: Sequence[Part], names: Sequence[str], reader: ConditionReader, option: str, of_photos: bool
    ) -> None:
        self.parts, self.names, self.reader, self.option, self.of_photos = parts, names, reader, option, of_photos

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        what = "photographs" if self.of_photos else plural(self.reader.kind)
        if self.reader.kind == "sketch" and not self.of_photos:
            what += (
                ", dark lines on a bright ground" if self.reader.black_on_white else ", bright lines on a dark ground"
            )
        return f"{len(self)} of {' and '.join(dict.fromkeys(part.files.root for part in self.parts))} ({what})"

    @property
    def told(self) -> dict[str, Any]:
        """What is recorded of them: where they are, and whether they are photographs."""
        return {"root": [os.path.abspath(part.files.root) for part in self.parts], "photographs": self.of_photos}

    def read(self, indices: Sequence[int]) -> Tensor:
        """The conditions of these numbers: uint8 (N, C, S, S).

        Raises:
            ImageError: One cannot be used; names the file.
        """
        found = {number: self._decoded(number) for number in dict.fromkeys(indices)}
        return torch.stack([found[number] for number in indices])

    def sha256(self) -> list[str]:
        """That of what a network is shown of each, see ``sha256_of``. All are read, and so checked.

        Raises:
            ImageError: One cannot be used; names the file.
        """
        with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:  # decoders don't hold the lock
            return list(pool.map(lambda number: sha256_of(self._decoded(number)), range(len(self))))

    def numbers(self, each: int) -> Tensor:
        """Which sample of a seed is drawn from a condition: that of the hash of its name, and the next ones.

        So the images of a condition stay what they are when others are added.

        Args:
            each: How many images are drawn from each.

        Returns:
            int64 (N * each,), 0 … 2**32 - 1, those of a condition one after the other
        """
        digests = (hashlib.blake2b(os.fsencode(name), digest_size=4).digest() for name in self.names)
        first = torch.tensor([int.from_bytes(digest, "big") for digest in digests])
        return ((first[:, None] + torch.arange(each)) % 2**32).flatten()

    def sample(self, number: int, each: int) -> str:
        """The name of the file of a sample, where ``each`` are drawn from each condition: ``NAME.png``, or of several
        ``NAME_0.png``, ``NAME_1.png``, …; folders below the root of the conditions are part of it.
        """
        name = self.names[number // each]
        return f"{name}_{number % each}.png" if each > 1 else f"{name}.png"

    def _decoded(self, number: int) -> Tensor:
        rows = [(part.files, part.rows[self.names[number]]) for part in self.parts]
        data, titles = [files.read(row) for files, row in rows], [files.title(row) for files, row in rows]
        if not self.of_photos:
            return self.reader.decoded(data, titles)[0]
        photo = opened(data[0], titles[0], self.reader.max_pixels)
        require_size(photo, titles[0], self.reader.size, "--data.condition_size")
        return self.reader.of_photo(photo, titles[0])


def sha256_of(condition: Tensor) -> str:
    """The first sixteen hexadecimal digits of the hash of a condition image, uint8 (C, S, S)."""
    return hashlib.sha256(condition.numpy().tobytes()).hexdigest()[:16]


def condition_files(data: object, roots: str | Sequence[str], option: str, of_photos: bool = False) -> ConditionFiles:
    """The conditions of a folder, to be read as those that a network was trained on.

    Args:
        data: What it was trained on.
        roots: The folder or archives, as for ``Paired``; of normals and depth one, or one for each.
        option: That names them.
        of_photos: Whether they are photographs, of whose edges sketches are made.

    Raises:
        InputError: The data have no conditions of that kind, there are none, or two would have one name.
    """
    reader = data.reader if isinstance(data, ImageDataModule) else None
    if reader is None:
        raise InputError(
            f"nothing says what the files of {option} are: give --data as for training, such as --data Paired "
            "--data.condition mask"
        )
    assert isinstance(data, ImageDataModule)
    if of_photos and reader.kind != "sketch":
        raise InputError(
            f"{option} makes sketches, but the data are {plural(reader.kind)}: give a folder of these with "
            "--images.conditions"
        )
    if of_photos:
        require_edge_detector()
    given, kinds = [roots] if isinstance(roots, str) else list(roots), PARTS[reader.kind]
    if len(given) not in (1, len(kinds)):
        raise InputError(f"{option} names {len(given)} folders: {reader.kind} is of {' and '.join(kinds)}")
    suffixes = [""] * len(kinds) if of_photos else data.suffixes or [""] * len(kinds)
    if len(given) < len(kinds) and len(set(suffixes)) < len(kinds):
        raise InputError(
            f"which files of {given[0]} are {' and which '.join(map(plural, kinds))}? Give a folder of each, "
            f'{option} "[NORMALS, DEPTH]", or what their names end in with --data.suffix'
        )
    parts, names = named_alike(given * (len(kinds) // len(given)), kinds, suffixes, option)
    if reader.kind == "mask":
        recorded = (data.recorded or {}).get("palette")  # of the first mask that was trained on
        palette = {int(k): tuple(v) for k, v in recorded.items()} if recorded else _palette(parts[0], names[0])
        reader = replace(reader, masks=replace(reader.masks, palette=palette))
    return ConditionFiles(parts, names, reader, option, of_photos)


def _palette(part: Part, name: str) -> dict[int, tuple[int, ...]]:
    """The colours of a palette PNG, with which the others must agree; none of another image."""
    row = part.rows[name]
    try:
        return palette_in_use(opened(part.files.read(row), part.files.title(row), as_stored=True))
    except ImageError:
        return {}
