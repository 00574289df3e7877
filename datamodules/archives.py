"""Images inside zip archives and tar shards: where each one lies, and its bytes without unpacking the rest."""

import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tenshot.datamodules.files import LABEL_FILES, PACKED, is_hidden, is_image, left_out_ending
from tenshot.datamodules.labels import DATASET_JSON
from tenshot.datamodules.reading import ImageError
from tenshot.errors import InputError

__all__ = ["Archives", "Contents", "Member", "Stamp", "contents", "stamp"]

MOST_OPEN = 64  # archives; a process may have about a thousand files open
MOST_CLASS = 256  # bytes of a class name
AFTER_END = 1 << 16  # bytes behind the end of a tar that must be padding

Stamp = tuple[int, int]


class Member(NamedTuple):
    """An image: a file of a folder, or a place in an archive.

    ``archive`` counts the archives of an index, -1 for none; ``size`` is that of the bytes stored, ``packed`` whether
    they are deflated; ``crc`` of the image's bytes, 0 where the archive does not tell; ``label`` its class where a
    file beside it tells.
    """

    name: str
    archive: int = -1
    offset: int = 0
    size: int = 0
    packed: bool = False
    crc: int = 0
    label: str | None = None


@dataclass
class Contents:
    """What of a folder or an archive matters.

    Args:
        members: The images, in its order; in an archive, of several with one name, all.
        left_out: How many files seem to hold images but are not read, by ending.
        label_files: Contents of files that may tell classes, by name; those of ``LABEL_FILES`` alone that is read.
        cls_files: Whether it has WebDataset's ``.cls`` files.
    """

    members: list[Member] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    label_files: dict[str, bytes] = field(default_factory=dict)
    cls_files: bool = False


def stamp(path: Path) -> Stamp:
    """Size and time of the last change in ns: others mean other contents."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def contents(path: Path, number: int) -> Contents:
    """What is in an archive.

    Args:
        number: Of the archive, for ``Member.archive``.

    Raises:
        InputError: the archive is cut off, damaged, compressed as a whole, or holds a name that leads out of it.
    """
    if path.name.lower().endswith(PACKED):
        raise InputError(f"{path} is compressed as a whole, so no image can be reached by itself: unpack it to a .tar")
    try:
        return _of_zip(path, number) if path.suffix.lower() == ".zip" else _of_tar(path, number)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, struct.error, zlib.error) as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(f"{path} is cut off or damaged ({reason}): make or copy it again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): replace it or take it out") from None


def _of_zip(path: Path, number: int) -> Contents:
    found = Contents()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16) or not _wanted(info.filename, found):
                continue
            if info.flag_bits & 1:
                raise InputError(f"{path}: {info.filename} is encrypted: make the archive again without a password")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InputError(
                    f"{path}: {info.filename} is packed in a way of few programs: make it again by deflate"
                )
            name = _inside(info.filename, path)
            if is_image(name):
                packed = info.compress_type == zipfile.ZIP_DEFLATED
                found.members.append(Member(name, number, info.header_offset, info.compress_size, packed, info.CRC))
            else:
                found.label_files[name] = archive.read(info) if _is_dataset_json(name) else b""
    return found


def _of_tar(path: Path, number: int) -> Contents:
    """WebDataset's shards too: ``0001.jpg`` and ``0001.cls``, the file's text being the class, make one sample."""
    found = Contents()
    labels: dict[str, str] = {}
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else a million of them stay in memory
            if not info.isreg() or info.issparse():
                continue
            if info.name.endswith(".cls") and info.size <= MOST_CLASS and not is_hidden(info.name):
                text = os.pread(file.fileno(), info.size, info.offset_data)
                labels[_key(_inside(info.name, path))] = text.decode(errors="replace").strip()
            if not _wanted(info.name, found):
                continue
            name = _inside(info.name, path)
            if is_image(name):
                found.members.append(Member(name, number, info.offset_data, info.size))
            else:
                size = info.size if _is_dataset_json(name) else 0
                found.label_files[name] = os.pread(file.fileno(), size, info.offset_data)
        end = os.pread(file.fileno(), AFTER_END, archive.offset)
        if len(end) < tarfile.BLOCKSIZE or end[: tarfile.BLOCKSIZE].strip(b"\0"):
            raise tarfile.ReadError(f"no end mark after {archive.offset} bytes")
        if end.strip(b"\0"):
            raise tarfile.ReadError("more follows its end mark, as after joining archives")
    if labels:
        found.cls_files = True
        found.members = [image._replace(label=labels.get(_key(image.name), "")) for image in found.members]
    return found


def _wanted(name: str, found: Contents) -> bool:
    """Whether a file of an archive is an image or may tell classes; counts what is left out."""
    if ending := left_out_ending(name):
        found.left_out[ending] += 1
    return is_image(name) or (PurePosixPath(name).name in LABEL_FILES and not is_hidden(name))


def _is_dataset_json(name: str) -> bool:
    return PurePosixPath(name).name == DATASET_JSON


def _key(name: str) -> str:
    """What the files of one WebDataset sample share: the name up to the first dot after the last slash."""
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.split('.', 1)[0]}"


def _inside(name: str, path: Path) -> str:
    """The name without ``./``; one that leads out of the archive would be written anywhere by ``tenshot prepare``."""
    parts = PurePosixPath(name).parts
    if ".." in parts or name.startswith("/"):
        raise InputError(f"{path} holds {name!r}, which leads out of it: make the archive again with relative names")
    return "/".join(parts)


class Archives:
    """Bytes of members by their place. The files are opened when they are first read, the last few stay open.

    Args:
        paths: The archives, in the order of their numbers.
        stamps: What they were like when their members were listed.
    """

    def __init__(self, paths: list[Path], stamps: Mapping[Path, Stamp]) -> None:
        self.paths = paths
        self.stamps = stamps
        self._open: OrderedDict[int, int] = OrderedDict()

    def read(self, member: Member) -> bytes:
        """The image file. Safe in processes forked from one another: positions are not shared.

        Raises:
            InputError: the archive is gone, or has changed since it was listed.
            ImageError: the archive is damaged here.
        """
        path = self.paths[member.archive]
        try:
            return self._read(self._descriptor(member.archive), member, path)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}): replace it or take it out") from None

    def _read(self, descriptor: int, member: Member, path: Path) -> bytes:
        first, checked = member.offset, path.suffix.lower() == ".zip"
        if checked:  # the length of the local header is known only there
            header = os.pread(descriptor, 30, first)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise ImageError(
                    f"{path}: there is no {member.name} where the archive says: make or copy it again", "unreadable"
                )
            first += 30 + sum(struct.unpack("<HH", header[26:30]))
        data = os.pread(descriptor, member.size, first)
        if len(data) < member.size:
            raise ImageError(f"{path} ends in the middle of {member.name}: make or copy it again", "unreadable")
        if member.packed:
            try:
                data = zlib.decompress(data, -zlib.MAX_WBITS)
            except zlib.error:
                raise ImageError(
                    f"{path}: {member.name} is damaged: make or copy the archive again", "unreadable"
                ) from None
        if checked and zlib.crc32(data) != member.crc:
            raise ImageError(
                f"{path}: {member.name} is damaged (checksum): make or copy the archive again", "unreadable"
            )
        return data

    def _descriptor(self, number: int) -> int:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        path = self.paths[number]
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(descriptor)
        if (found.st_size, found.st_mtime_ns) != self.stamps[path]:
            os.close(descriptor)
            raise InputError(f"{path} has changed since its images were listed: start again")
        self._open[number] = descriptor
        if len(self._open) > MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return descriptor

    def close(self) -> None:
        """Close what is open."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["Archives"], tuple[list[Path], Mapping[Path, Stamp]]]:
        return Archives, (self.paths, self.stamps)  # another process opens its own
