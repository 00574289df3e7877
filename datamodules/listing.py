"""What lies at a root: the images of a folder, or those inside archives, sorted, and what tells when that changes."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from tenshot.datamodules.archives import Contents, Member, Stamp, contents, stamp
from tenshot.datamodules.files import (
    ENDINGS,
    LABEL_FILES,
    PACKED,
    SUFFIXES,
    is_hidden,
    is_image,
    left_out_ending,
    left_out_words,
    walk,
)
from tenshot.datamodules.labels import DATASET_JSON, Classes, classes_in
from tenshot.datamodules.reading import file_bytes
from tenshot.errors import InputError

__all__ = ["Listing", "changed", "list_root"]


@dataclass(frozen=True)
class Listing:
    """The images at a root.

    Args:
        root: The folder, the archive, or a pattern of archives.
        members: Sorted by name, folder by folder; images with one name in several archives follow those.
        archives: The archives, sorted; empty for a folder of images.
        prefix: The folder inside the archives that all else lies in, with its slash; empty for none.
        stamps: Folders and archives as they were just before they were listed.
        left_out: How many files seem to hold images but are not read, by ending.
        labels_from: The file or files that tell the classes of the images, instead of the folders; empty for none.
        labels_problem: Why they do not, although they should.
        num_labels: Number of classes that a dataset.json counts; None where the classes are names.
        other_label_files: What may tell classes, but is not read.
    """

    root: str
    members: list[Member]
    archives: list[str]
    prefix: str
    stamps: dict[str, Stamp]
    left_out: Counter[str] = field(default_factory=Counter)
    labels_from: str = ""
    labels_problem: str = ""
    num_labels: int | None = None
    other_label_files: list[str] = field(default_factory=list)


def list_root(root: str, option: str) -> Listing:
    """List a folder of images, an archive, a folder of archives, or archives by a pattern such as ``train-*.tar``.

    Archives in a folder that also holds images are passed over, as hidden files are.

    Args:
        option: The command-line option that gave ``root``, named in the errors.

    Raises:
        InputError: nothing there, no images, or a damaged archive.
    """
    stamps: dict[str, Stamp] = {}
    archives = _archives(root)
    found = {f"{root.rstrip('/')}/": Contents()}
    if archives is None:
        if not os.path.isdir(root):
            there = "is a file, not a folder" if os.path.exists(root) else "does not exist"
            raise InputError(f"{root} {there}: set {option} to a folder of images, a .zip, or .tar files")
        folder, archives = _walk(root, stamps)
        found = {f"{root.rstrip('/')}/": folder}
        if folder.members:
            folder.left_out.update(os.path.splitext(archive)[1].lower() for archive in archives)
            archives = []
    for number, archive in enumerate(archives):
        stamps[archive] = stamp(Path(archive))
        inside = contents(Path(archive), number)
        inside.members = list({member.name: member for member in inside.members}.values())  # the last of a name counts
        found[f"{archive}: "] = inside
    return _joined(root, option, found, archives, stamps)


def _joined(
    root: str, option: str, found: dict[str, Contents], archives: list[str], stamps: dict[str, Stamp]
) -> Listing:
    """The contents of a folder and archives, each under the start of its names in messages, as one."""
    left_out: Counter[str] = sum((one.left_out for one in found.values()), Counter())
    images = [member for one in found.values() for member in one.members]
    if not images:
        only = f"; there is only {left_out_words(left_out)}" if left_out else ""
        raise InputError(f"{root} holds no images ({', '.join(SUFFIXES)}): set {option} to a place that does{only}")
    told = [
        (one, classes_in(one.label_files, [member.name for member in one.members], where))
        for where, one in found.items()
        if one.members
    ]
    used = [classes for _, classes in told if classes is not None]
    labels_from = next((f"{where}.cls files" for where, one in found.items() if one.cls_files), "")
    problem, num_labels = "", None
    if used:
        labels_from, problem = next(((one.title, one.problem) for one in used if one.problem), (used[0].title, ""))
    if used and not problem:
        num_labels = 1 + max(number for classes in used for number in classes.by_name.values())
        images = [
            member._replace(label=str(classes.by_name[member.name]) if member.name in classes.by_name else "")
            for one, classes in ((one, classes or Classes("", {})) for one, classes in told)
            for member in one.members
        ]
    titles = {classes.title for classes in used}
    others = [where + name for where, one in found.items() for name in one.label_files if where + name not in titles]
    prefix = _common_folder(images) if archives else ""
    return Listing(
        root, _sorted(images), archives, prefix, stamps, left_out, labels_from, problem, num_labels, sorted(others)
    )  # fmt: skip


def changed(root: str, archives: list[str], stamps: dict[str, Stamp]) -> bool:
    """Whether images may have been added or removed since: asks each folder and archive, but lists none."""
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
    if not _is_pattern(root):
        return None
    fixed = re.split(r"[*?\[]", root, maxsplit=1)[0].rpartition("/")[0]
    matches = [path for path in sorted(glob(root)) if path.lower().endswith(ENDINGS)]
    matches = [path for path in matches if not is_hidden(path[len(fixed) :])]
    real = {path for path in matches if not os.path.islink(path)}
    return [path for path in matches if path in real or os.path.realpath(path) not in real] or None


def _is_pattern(root: str) -> bool:
    return any(sign in root for sign in "*?[") and not os.path.exists(root)


def _walk(root: str, stamps: dict[str, Stamp]) -> tuple[Contents, list[str]]:
    """What is in a folder and those below it, and the archives there; adds the stamps of folders and label files."""
    found, archives = Contents(), []
    stamps[root] = stamp(Path(root))
    for inside, below, names in walk(root):
        start = f"{inside}/" if inside else ""
        for name in below:
            folder = os.path.join(root, start + name)
            stamps[folder] = stamp(Path(folder))
        found.members += [Member(start + name) for name in names if is_image(name)]
        archives += [os.path.join(root, start + name) for name in names if name.lower().endswith(ENDINGS)]
        found.left_out.update(ending for name in names if (ending := left_out_ending(name)))
        for name in names:
            if name in LABEL_FILES:
                path = os.path.join(root, start + name)
                stamps[path] = stamp(Path(path))
                found.label_files[start + name] = file_bytes(Path(path)) if name == DATASET_JSON else b""
    return found, sorted(archives)


def _sorted(found: Iterable[Member]) -> list[Member]:
    return sorted(found, key=lambda member: (member.name.split("/"), member.archive))


def _common_folder(found: list[Member]) -> str:
    """Archives are often made of a folder: that one is no class, as long as there is another below it."""
    parts = [member.name.split("/") for member in found]
    depth = 0
    while all(len(names) > depth + 2 and names[depth] == parts[0][depth] for names in parts):
        depth += 1
    return "".join(f"{name}/" for name in parts[0][:depth])
