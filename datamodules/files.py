"""Which files are images: by name, without hidden ones, each once however links lead round; and which are left out."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import features

from tenshot.errors import InputError

__all__ = [
    "ENDINGS", "LABEL_FILES", "PACKED", "SUFFIXES", "is_hidden", "is_hidden_path", "is_image", "left_out_ending",
    "left_out_words", "walk",
]  # fmt: skip

ENDINGS = (".zip", ".tar")
"""Of archives."""
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Of archives in which no image can be reached without all before it."""

LABEL_FILES = ("dataset.json", "labels.csv", "labels.json", "labels.txt", "metadata.csv", "metadata.jsonl")
"""Names under which public data sets carry classes or descriptions."""

_HEIF = (".heic", ".heif", ".hif")
_JPEG_2000 = (".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx")
_SYSTEM = {
    "#recycle", "#snapshot", "$recycle.bin", ".ipynb_checkpoints", "@eadir", "@tmp", "__macosx", "__pycache__",
    "desktop.ini", "ehthumbs.db", "lost+found", "system volume information", "thumbs.db",
}  # fmt: skip
"""What operating systems and storage boxes put into folders, in lower case."""


def _heif_reader() -> bool:
    """Teach Pillow HEIC by the plugin pillow-heif, if that is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _readable() -> tuple[str, ...]:
    """The endings of the formats that this machine's Pillow decodes."""
    endings = [
        *(".bmp", ".gif", ".jfi", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
        *(".tga", ".tif", ".tiff", ".webp"),
    ]
    if features.check_codec("jpg_2000"):
        endings += _JPEG_2000
    if "avif" in features.modules and features.check_module("avif"):
        endings.append(".avif")
    if _heif_reader():
        endings += _HEIF
    return tuple(sorted(endings))


SUFFIXES = _readable()
_UNREAD = {
    ".3fr", ".7z", ".ai", ".apng", ".arw", ".avif", ".cr2", ".cr3", ".dds", ".dng", ".eps", ".erf", ".exr", ".hdr",
    ".icns", ".ico", ".jxl", ".jxr", ".kdc", ".mef", ".mrw", ".nef", ".nrw", ".orf", ".pcx", ".pef", ".pfm", ".psb",
    ".psd", ".qoi", ".raf", ".rar", ".raw", ".rw2", ".sgi", ".sr2", ".srf", ".srw", ".svg", ".wdp", ".x3f", ".xcf",
    *_HEIF, *_JPEG_2000,
} - set(SUFFIXES)  # fmt: skip
"""Of files that hold images, or archives of them, but are not read."""
_REMEDIES = {".avif": "Pillow 11.3 reads them"} | dict.fromkeys(_HEIF, "install pillow-heif to read them")


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it lies in, belongs to the system and not to the user.

    name: relative to the folder or archive that is read, with slashes
    """
    return any(part.startswith(".") or part.lower() in _SYSTEM for part in name.split("/") if part not in (".", ".."))


def is_hidden_path(path: Path) -> bool:
    """Whether a file that was named by its whole path is hidden; folders of the user's may be, ``~/.cache``."""
    return is_hidden(path.name) or any(part.lower() in _SYSTEM for part in path.parts)


def is_image(name: str) -> bool:
    """Whether a file of this name, with or without folders before it, is taken for an image: by its ending."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def left_out_ending(name: str) -> str | None:
    """The ending of a file that seems to hold images but is not read; None for any other.

    ``.jpg~`` and ``.jpg_large`` are such endings too.
    """
    if is_hidden(name):
        return None
    for packed in PACKED:
        if name.lower().endswith(packed):
            return packed
    ending = os.path.splitext(name)[1].lower()
    like = ending in _UNREAD or (ending not in SUFFIXES and ending.startswith(SUFFIXES))
    return ending if like else None


def left_out_words(count: Counter[str]) -> str:
    """``3 .heic (install pillow-heif to read them), 1 .psd``; the most frequent first."""
    return ", ".join(
        f"{number} {ending}" + (f" ({_REMEDIES[ending]})" if ending in _REMEDIES else "")
        for ending, number in sorted(count.items(), key=lambda item: (-item[1], item[0]))
    )


def walk(root: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """A folder and those below it: its name relative to ``root``, the names of folders entered next, and of files.

    Passed over: what is hidden; links to what is listed anyway, or to a folder around them; folders met before. Other
    links are followed.

    Raises:
        InputError: A folder cannot be listed.
    """
    tops = [os.path.realpath(root)]  # the root, and folders outside that links lead to
    met = {tops[0]}
    waiting: list[tuple[str, str, tuple[str, ...]]] = [("", tops[0], (tops[0],))]
    while waiting:
        inside, real, around = waiting.pop()
        folder = os.path.join(root, inside) if inside else root
        below: list[tuple[str, str, tuple[str, ...]]] = []  # its name, real place, and folders linked to around it
        names: list[str] = []
        for entry in _entries(folder):
            if is_hidden(entry.name):
                continue
            linked = entry.is_symlink()
            place = os.path.realpath(entry.path) if linked else f"{real.rstrip('/')}/{entry.name}"
            if os.path.isdir(entry.path) if linked else entry.is_dir():
                back = linked and (_listed(place, tops) or any(_within(top, place) for top in around))
                if back or place in met:
                    continue
                met.add(place)
                if linked:
                    tops.append(place)
                child = f"{inside}/{entry.name}" if inside else entry.name
                below.append((child, place, (*around, place) if linked else around))
            elif entry.is_file(follow_symlinks=False) or (linked and not _listed(place, tops, SUFFIXES + ENDINGS)):
                names.append(entry.name)
        yield inside, [child.rsplit("/", 1)[-1] for child, *_ in below], names
        waiting.extend(reversed(below))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be listed ({error.strerror}): let it be read or take it out"
        ) from None


def _within(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder.rstrip("/") + "/")


def _listed(place: str, tops: list[str], endings: tuple[str, ...] = ("",)) -> bool:
    """Whether a real place is in one of these folders, not hidden there, and with one of these endings."""
    return place.lower().endswith(endings) and any(
        _within(place, top) and not is_hidden(place[len(top) :]) for top in tops
    )
