"""The list of a large set's images: made once, kept in a file, memory-mapped by every rank and worker."""

import contextlib
import fcntl
import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from tenshot.datamodules.archives import Archives, Member, Stamp
from tenshot.datamodules.files import left_out_words
from tenshot.datamodules.listing import Listing, changed, list_root
from tenshot.datamodules.reading import file_bytes
from tenshot.errors import InputError

__all__ = ["ImageIndex", "cache_folder", "open_index"]

MAGIC = b"tenshot pictures 2\n"
ENTRY = np.dtype(
    [
        ("start", "<i8"), ("length", "<i4"), ("archive", "<i4"), ("label", "<i4"), ("crc", "<u4"), ("offset", "<i8"),
        ("size", "<i8"), ("packed", "<i8"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class ImageIndex:
    """Images by number, in a folder or in archives; about 80 bytes each, shared by all processes that map the file.

    Args:
        root: The folder, the archive, or a pattern of archives.
        archives: The archives; empty for a folder.
        prefix: The folder inside the archives that all images lie in, which is no class.
        classes: Names of the classes, sorted; those that WebDataset's .cls files tell, numbers in numerical order.
        stamps: Folders and archives as they were when they were listed.
        digest: Of the names and places of all images: equal where the lists are.
        entries: One ENTRY an image; ``label`` counts ``classes``, -1 for none.
        names: uint8, the names one after the other in UTF-8.
        left_out: How many files seem to hold images but are not read, by ending.
        labels_from: The file or files that tell the classes, instead of the folders; empty for none.
        labels_problem: Why they do not, although they should.
        other_label_files: What may tell classes, but is not read.
        file: Where all this is kept; None in memory alone.
    """

    root: str
    archives: list[str]
    prefix: str
    classes: list[str]
    stamps: dict[str, Stamp]
    digest: str
    entries: np.ndarray
    names: np.ndarray
    left_out: dict[str, int]
    labels_from: str
    labels_problem: str
    other_label_files: list[str]
    file: Path | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __reduce__(self) -> tuple[object, ...]:
        if self.file is not None:
            return _load, (self.file,)  # another process maps the same file
        return ImageIndex, tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def name(self, row: int) -> str:
        """The name of an image within the folder or its archive."""
        start, length = int(self.entries["start"][row]), int(self.entries["length"][row])
        return self.names[start : start + length].tobytes().decode("utf-8", "surrogateescape")

    def title(self, row: int) -> str:
        """How errors name an image: its path, or its archive and its name there."""
        archive = int(self.entries["archive"][row])
        return os.path.join(self.root, self.name(row)) if archive < 0 else f"{self.archives[archive]}: {self.name(row)}"

    def read(self, row: int) -> bytes:
        """The file of an image.

        Raises:
            InputError: it is gone or damaged; names it.
        """
        entry = self.entries[row]
        if entry["archive"] < 0:
            return file_bytes(Path(self.title(row)))
        place = (int(entry[name]) for name in ("archive", "offset", "size", "packed", "crc"))
        archive, offset, size, packed, crc = place
        return self._opened.read(Member(self.name(row), archive, offset, size, bool(packed), crc))

    @cached_property
    def _opened(self) -> Archives:
        return Archives([Path(path) for path in self.archives], {Path(path): was for path, was in self.stamps.items()})


def open_index(root: str, option: str) -> ImageIndex:
    """The images at a root: from the kept list if that is fresh, else listed now and kept.

    Of several processes that want it at once, one lists and the others wait. Where the cache folder cannot be written,
    a warning says so, and each process lists for itself.

    Args:
        option: The command-line option that gave ``root``, named in the errors.

    Raises:
        InputError: nothing there, no images, or a damaged archive.
    """
    if not root:
        raise InputError(f"{option} is empty: set it to a folder of images, a .zip, or .tar files")
    place = os.path.abspath(root)
    name = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    file = cache_folder() / f"{name}.index"
    index = _fresh(file, place)
    if index is None:
        with _one_at_a_time(file):
            index = _fresh(file, place) or _kept(_indexed(list_root(place, option)), file)
    if index.left_out:
        rank_zero_info(f"{root}: left out {left_out_words(Counter(index.left_out))}")
    return replace(index, root=root)


def cache_folder() -> Path:
    """$TENSHOT_CACHE, else ``tenshot`` in $XDG_CACHE_HOME, else in ~/.cache."""
    own = os.environ.get("TENSHOT_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "tenshot"


def _fresh(file: Path, place: str) -> ImageIndex | None:
    """The kept list, unless there is none, or it is another version's, or the images have changed."""
    try:
        index = _load(file)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if index.root != place or changed(place, index.archives, index.stamps) else index


def _indexed(listing: Listing) -> ImageIndex:
    """The arrays of a listing."""
    names = [member.name.encode("utf-8", "surrogateescape") for member in listing.members]
    labels = [_class_of(member, listing.prefix) for member in listing.members]
    told = any(member.label is not None for member in listing.members)
    classes = sorted({label for label in labels if label}, key=_numbers_first if told else str)
    if listing.num_labels is not None:
        classes = [str(number) for number in range(listing.num_labels)]
    number = {name: index for index, name in enumerate(classes)}
    entries = np.zeros(len(names), ENTRY)
    entries["length"] = [len(name) for name in names]
    entries["start"][1:] = np.cumsum(entries["length"][:-1], dtype=np.int64)
    entries["label"] = [number[label] if label else -1 for label in labels]
    for field in ("archive", "offset", "size", "packed", "crc"):
        entries[field] = [getattr(member, field) for member in listing.members]
    joined = np.frombuffer(b"".join(names), np.uint8)
    digest = hashlib.sha256(entries.tobytes() + joined.tobytes()).hexdigest()
    return ImageIndex(
        listing.root, listing.archives, listing.prefix, classes, listing.stamps, digest, entries, joined,
        dict(listing.left_out), listing.labels_from, listing.labels_problem, listing.other_label_files,
    )  # fmt: skip


def _class_of(member: Member, prefix: str) -> str:
    """What a file beside it says, else the first folder; empty for none."""
    if member.label is not None:
        return member.label
    folder, _, rest = member.name.removeprefix(prefix).partition("/")
    return folder if rest else ""


def _numbers_first(name: str) -> tuple[bool, int, str]:
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def _kept(index: ImageIndex, file: Path) -> ImageIndex:
    """Write the file, whole or not at all, and map it."""
    about = {name: getattr(index, name) for name in index.__dataclass_fields__}
    del about["entries"], about["names"], about["file"]
    header = json.dumps(about | {"count": len(index)}).encode()
    header += b" " * (-(len(MAGIC) + 8 + len(header)) % 64)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            out.write(MAGIC + len(header).to_bytes(8, "little") + header)
            out.write(index.entries.tobytes())
            out.write(index.names.tobytes())
        partial.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        warnings.warn(
            f"the list of images in {index.root} cannot be kept in {file.parent} ({error.strerror or error}), so "
            "each process lists them anew: set TENSHOT_CACHE to a folder that can be written",
            stacklevel=2,
        )
        return index
    return _load(file)


def _load(file: Path) -> ImageIndex:
    """Map a kept list.

    Raises:
        OSError, ValueError, KeyError, TypeError: there is none, or it is none of this version.
    """
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{file} is no list of images of this version")
        header = opened.read(int.from_bytes(opened.read(8), "little"))
        first = opened.tell()
    about = json.loads(header)
    count = about.pop("count")
    about["stamps"] = {path: (size, time) for path, (size, time) in about["stamps"].items()}
    entries = np.memmap(file, ENTRY, "r", first, (count,))
    names = np.memmap(file, np.uint8, "r", first + entries.nbytes)
    if len(names) != int(entries["start"][-1]) + int(entries["length"][-1]):
        raise ValueError(f"{file} is cut off")
    return ImageIndex(**about, entries=entries, names=names, file=file)


@contextlib.contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """Wait until no other process lists these images. Where locks do not work, several may, to the same end."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(file.with_suffix(".lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
