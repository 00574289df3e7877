"""Which condition belongs to which image: by their names in folders and archives, or by a list."""

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from tenshot.datamodules.index import ImageIndex, open_index
from tenshot.datamodules.pairs.files import ListedFiles, Pairs
from tenshot.datamodules.pairs.lists import Listed, read_list
from tenshot.errors import InputError

__all__ = ["Part", "Place", "find_pairs", "named_alike", "plural"]

_SAID = 3  # names in a line


@dataclass(frozen=True)
class Place:
    """Where pairs are.

    Args:
        root: Folder or archives of the images.
        conditions: Of each part of the condition; empty: they lie with the images.
        suffixes: What the names of each part have after that of their image.
        pairs: A list of them, see ``read_list``.
        option: What the names of the options that say so begin with, ``val_``.
    """

    root: str | None
    conditions: Sequence[str]
    suffixes: Sequence[str]
    pairs: str | None = None
    option: str = ""


def find_pairs(place: Place, parts: Sequence[str], can_be_made: bool = False) -> Pairs:
    """The pairs in folders or archives, by name, or those of a list; one line says which files have no partner.

    Args:
        place: Where they are.
        parts: Names of the parts of the condition.
        can_be_made: Whether conditions are made from the images where nothing says where they are.

    Raises:
        InputError: There are none, or files that a list names are missing.
    """
    root, option = place.root, place.option
    listed = None if place.pairs is None else read_list(place.pairs, parts, f"--data.{option}pairs")
    names_conditions = listed is not None and bool(listed.conditions)
    if can_be_made and not (place.conditions or any(place.suffixes) or names_conditions):
        parts = ()
    if listed is not None and (names_conditions or (root is None and not parts)):
        return _of_list(listed, place, parts)
    if root is None:
        raise InputError(f"--data.{option}root is not set: give the folder or archive of the images")
    if parts and not place.conditions and not all(place.suffixes):
        raise InputError(
            f"where are the {plural(parts[0])} of {root}? Give their folder with --data.{option}conditions, or, where "
            f"they lie with the images, what their names end in with --data.suffix, such as _{parts[0]}"
        )
    images = open_index(root, f"--data.{option}root")
    folders = list(place.conditions) or [root] * len(parts)
    others = [open_index(folder, f"--data.{option}conditions") for folder in folders]
    beside = [suffix for suffix, folder in zip(place.suffixes, folders, strict=False) if _same(folder, root)]
    ends = tuple(suffix for suffix in beside if suffix)
    for folder_of in (_first_folder, _common_folder):
        named = [Part(*one, folder_of(one[2])) for one in zip(parts, place.suffixes, others, strict=False)]
        matching = _Matching(images, folder_of(images), named, ends)
        wanted = matching.wanted if listed is None else matching.rows_of(listed)
        if matching.matched(wanted):
            break
    return matching.pairs(wanted, say_unused=listed is None)


@dataclass(frozen=True)
class Part:
    """A part of the condition, and the files that it is among.

    Args:
        part: Its name.
        suffix: How the names of its files end.
        files: That it is among.
        folder: Around all of these in an archive.
    """

    part: str
    suffix: str
    files: ImageIndex
    folder: str

    @cached_property
    def rows(self) -> dict[str, int]:
        """Of the files that have the suffix, by their names without it."""
        table: dict[str, int] = {}
        for row in range(len(self.files)):
            key = _key(self.files, row, self.folder)
            if not key.endswith(self.suffix):
                continue
            key = key.removesuffix(self.suffix)
            if key in table:
                both = f"{self.files.title(table[key])} and {self.files.title(row)}"
                raise InputError(f"{both} would belong to one image: keep one of them")
            table[key] = row
        return table


def named_alike(
    roots: Sequence[str], parts: Sequence[str], suffixes: Sequence[str], option: str
) -> tuple[list[Part], list[str]]:
    """The files of conditions alone, and the names that all parts have; one line says what is left out.

    Args:
        roots: Folder or archives of each part.
        parts: Names of the parts.
        suffixes: What the names of the files of each have at their ends, which is left out; of a single part they need
            not.
        option: That names the folders.

    Raises:
        InputError: There are none, or two would have one name.
    """
    indices = [open_index(root, option) for root in roots]
    found = [Part(*one, _common_folder(one[2])) for one in zip(parts, suffixes, indices, strict=True)]
    if len(found) == 1 and not found[0].rows:
        found = [replace(found[0], suffix="")]
    names = [name for name in found[0].rows if all(name in part.rows for part in found)]
    if not names:
        raise InputError(
            f"no files of {' and '.join(roots)} are {' and '.join(parts)} of one name: give both the same, or set "
            "--data.suffix to what these end in"
        )
    used = {(part.files.root, part.rows[name]) for part in found for name in names}
    places = dict(zip(roots, indices, strict=True))
    over = [files.name(row) for at, files in places.items() for row in range(len(files)) if (at, row) not in used]
    if over:
        kinds = " or ".join(map(plural, parts))
        rank_zero_info(
            f"{' and '.join(places)}: left out {len(over)} files, by their names no {kinds} ({_first(over)})"
        )
    return found, names


@dataclass(frozen=True)
class _Matching:
    """Images and the parts of their conditions in folders or archives.

    Args:
        images: The files that images are among.
        folder: Around all of these in an archive.
        parts: Of the condition.
        not_images: How the names of files end that lie with the images but are conditions.
    """

    images: ImageIndex
    folder: str
    parts: list[Part]
    not_images: tuple[str, ...]

    @cached_property
    def keys(self) -> list[str]:
        """What the name of each image is matched by."""
        return [_key(self.images, row, self.folder) for row in range(len(self.images))]

    @property
    def wanted(self) -> list[int]:
        """The rows of the images."""
        return [row for row, key in enumerate(self.keys) if not (self.not_images and key.endswith(self.not_images))]

    def rows_of(self, listed: Listed) -> list[int]:
        """The rows of the images that a list names, perhaps with folders before the root that are elsewhere called so.

        Raises:
            InputError: Some are missing.
        """
        table = {key: row for row, key in enumerate(self.keys)}
        rows: list[int] = []
        missing: list[str] = []
        for name in listed.images:
            names = PurePosixPath(name).with_suffix("").parts
            ends = ("/".join(names[first:]) for first in range(len(names)))
            row = next((table[end] for end in ends if end in table), None)
            if row is None:
                missing.append(name)
            else:
                rows.append(row)
        if missing:
            lacks = f"names {len(missing)} images that {self.images.root} lacks ({_first(missing)})"
            raise InputError(f"{listed.title} {lacks}: mend the list or add them")
        return rows

    def matched(self, wanted: list[int]) -> list[int]:
        """Those of these images that have all parts of their condition."""
        return [row for row in wanted if all(self.keys[row] in part.rows for part in self.parts)]

    def pairs(self, wanted: list[int], say_unused: bool) -> Pairs:
        """The pairs among these images; one line says what has no partner.

        Args:
            say_unused: Whether conditions without an image are worth mentioning.

        Raises:
            InputError: There are none.
        """
        keys = self.keys
        rows = self.matched(wanted)
        if not rows:
            raise InputError(self._no_pairs(wanted))
        told = []
        for part in self.parts:
            alone = [self.images.name(row) for row in wanted if keys[row] not in part.rows]
            if alone:
                told.append(f"{len(alone)} without a {part.part} ({_first(alone)})")
        if say_unused:
            present = {keys[row] for row in wanted}
            for part in self.parts:
                over = [part.files.name(row) for key, row in part.rows.items() if key not in present]
                if over:
                    told.append(f"{len(over)} {plural(part.part)} without an image ({_first(over)})")
        if told:
            rank_zero_info(f"{self.images.root}: {len(rows)} pairs; left out: {', '.join(told)}")
        conditions = [(part.files, np.array([part.rows[keys[row]] for row in rows])) for part in self.parts]
        return Pairs(self.images.root, self.images, np.array(rows), tuple(conditions))

    def _no_pairs(self, wanted: list[int]) -> str:
        """What to say of it."""
        root = self.images.root
        if not wanted:
            return f"{root} holds nothing but files whose names end like those of conditions: mend --data.suffix"
        key, first = self.keys[wanted[0]], self.images.title(wanted[0])
        for part in self.parts:
            if any(self.keys[row] in part.rows for row in wanted):
                continue
            theirs = (_key(part.files, row, part.folder) for row in range(len(part.files)))
            longer = next((other for other in theirs if other.startswith(key) and other != key), None)
            remedy = f"give both the same name, or set --data.suffix to what {plural(part.part)} have after it"
            if longer is not None:
                remedy = f"set --data.suffix to {longer.removeprefix(key)}"
            where = f"{part.files.root} ({first}, {part.files.title(0)}, …)"
            return f"no image in {root} has its {part.part} in {where}: {remedy}"
        return f"no image in {root} has all of {' and '.join(part.part for part in self.parts)}: add what is missing"


def _same(folder: str, other: str) -> bool:
    return posixpath.realpath(folder) == posixpath.realpath(other)


def _key(index: ImageIndex, row: int, folder: str) -> str:
    """What an image and its condition share: the name without its ending and without the folder around an archive."""
    return str(PurePosixPath(index.name(row).removeprefix(folder)).with_suffix(""))


def _first_folder(index: ImageIndex) -> str:
    """The folder around all that is in an archive, as long as there are others in that; empty for a folder of files."""
    return index.prefix


def _common_folder(index: ImageIndex) -> str:
    """The innermost folder around all that is in an archive; empty for a folder of files."""
    if not index.archives:
        return ""
    folder = posixpath.commonpath([posixpath.dirname(index.name(row)) for row in range(len(index))])
    return folder and f"{folder}/"


def _of_list(listed: Listed, place: Place, parts: Sequence[str]) -> Pairs:
    """The pairs of a list that names conditions too, or needs none."""
    folder = listed.folder if place.root is None else Path(place.root)
    folders = [folder, *(map(Path, place.conditions) if place.conditions else [folder] * len(parts))]
    images, *others = [ListedFiles(*one) for one in zip(folders, [listed.images, *listed.conditions], strict=False)]
    missing = [files.title(row) for files in (images, *others) for row in range(len(files)) if not _is_file(files, row)]
    if missing:
        raise InputError(
            f"{listed.title} names {len(missing)} files that do not exist ({_first(missing)}): mend the list"
        )
    rows = np.arange(len(images))
    return Pairs(listed.title, images, rows, tuple((files, rows) for files in others))


def _is_file(files: ListedFiles, row: int) -> bool:
    return Path(files.title(row)).is_file()


def _first(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_SAID] + ["…"] * (len(listed) > _SAID))


def plural(part: str) -> str:
    """Several of a part of the condition."""
    return {"sketch": "sketches", "depth": "depth maps", "normals": "normals"}.get(part, f"{part}s")
