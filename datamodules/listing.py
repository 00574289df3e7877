"""What lies at a root: the pictures of a folder, or those inside archives, sorted, and what tells when that changes."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from tenshot.datamodules.archives import ENDINGS, PACKED, Member, Stamp, members, stamp
from tenshot.datamodules.reading import SUFFIXES, is_picture
from tenshot.errors import InputError

__all__ = ["Listing", "changed", "list_root"]


@dataclass(frozen=True)
class Listing:
    """The pictures at a root.

    Args:
        root: The folder, the archive, or a pattern of archives.
        members: Sorted by name, folder by folder; pictures with one name in several archives follow those.
        archives: The archives, sorted; empty for a folder of pictures.
        prefix: The folder inside the archives that all else lies in, with its slash; empty for none.
        stamps: Folders and archives as they were just before they were listed.
    """

    root: str
    members: list[Member]
    archives: list[str]
    prefix: str
    stamps: dict[str, Stamp]


def list_root(root: str, option: str) -> Listing:
    """List a folder of pictures, an archive, a folder of archives, or archives by a pattern such as ``train-*.tar``.

    Archives in a folder that also holds pictures are passed over, as hidden files are.

    Args:
        option: The command-line option that gave ``root``, named in the errors.

    Raises:
        InputError: nothing there, no pictures, or a damaged archive.
    """
    stamps: dict[str, Stamp] = {}
    archives = _archives(root)
    if archives is None:
        if not os.path.isdir(root):
            found = "is a file, not a folder" if os.path.exists(root) else "does not exist"
            raise InputError(f"{root} {found}: set {option} to a folder of pictures, a .zip, or .tar files")
        pictures, archives = _walk(root, stamps)
        if pictures:
            return Listing(root, _sorted(pictures), [], "", stamps)
    found_members: list[Member] = []
    for number, archive in enumerate(archives):
        stamps[archive] = stamp(Path(archive))
        inside = {member.name: member for member in members(Path(archive), number)}  # of one name, the last counts
        found_members.extend(inside.values())
    if not found_members:
        raise InputError(f"{root} holds no pictures ({', '.join(SUFFIXES)}): set {option} to a place that does")
    return Listing(root, _sorted(found_members), archives, _common_folder(found_members), stamps)


def changed(root: str, archives: list[str], stamps: dict[str, Stamp]) -> bool:
    """Whether pictures may have been added or removed since: asks each folder and archive, but lists none."""
    if (_archives(root) or archives) != archives:
        return True
    try:
        return any(
            (found := stamp(Path(path))) != was and (path in archives or found[1] != was[1])
            for path, was in stamps.items()
        )
    except OSError:
        return True


def _archives(root: str) -> list[str] | None:
    """The archives that ``root`` names by itself or as a pattern; None where it names a folder, or nothing."""
    if os.path.isfile(root) and root.lower().endswith(ENDINGS + PACKED):
        return [root]
    return sorted(path for path in glob(root) if path.lower().endswith(ENDINGS)) or None if _is_pattern(root) else None


def _is_pattern(root: str) -> bool:
    return any(sign in root for sign in "*?[") and not os.path.exists(root)


def _walk(root: str, stamps: dict[str, Stamp]) -> tuple[list[Member], list[str]]:
    """The pictures and the archives in a folder and those below it; adds the stamps of the folders."""
    pictures, archives = [], []
    stamps[root] = stamp(Path(root))
    for folder, folders, names in os.walk(root, onerror=_unreadable, followlinks=True):
        for name in folders:
            below = os.path.join(folder, name)
            stamps[below] = stamp(Path(below))
        inside = os.path.relpath(folder, root)
        start = "" if inside == "." else f"{inside}/"
        pictures += [Member(start + name) for name in names if is_picture(name)]
        archives += [os.path.join(folder, name) for name in names if name.lower().endswith(ENDINGS)]
    return pictures, sorted(archives)


def _unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be listed ({error.strerror}): let it be read or take it out")


def _sorted(found: Iterable[Member]) -> list[Member]:
    return sorted(found, key=lambda member: (member.name.split("/"), member.archive))


def _common_folder(found: list[Member]) -> str:
    """Archives are often made of a folder: that one is no class, as long as there is another below it."""
    parts = [member.name.split("/") for member in found]
    depth = 0
    while all(len(names) > depth + 2 and names[depth] == parts[0][depth] for names in parts):
        depth += 1
    return "".join(f"{name}/" for name in parts[0][:depth])
