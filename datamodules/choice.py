"""Which images are taken and which are held out: chosen by a hash of the name, recorded, and kept ever after."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from tenshot.datamodules.reading import ImageError
from tenshot.errors import InputError

__all__ = [
    "BY_LISTING", "BY_NAME", "Listed", "Record", "digest_of", "first_by_name", "held_out_by_name", "part_of",
    "recorded_rows",
]  # fmt: skip

Record = dict[str, Any]
"""What a run records of its data, as JSON holds it (docs/data.md)."""

BY_NAME, BY_LISTING = "name", "listing"
"""Rules of choice. The second is that of runs without a record: one file more moves every choice."""

MOST_NAMED = 10_000
"""Of a larger set a digest is recorded, not the names."""
MOST_HASHED = 1000
"""Of a larger set the contents are not looked at."""


def first_by_name(names: Iterable[str], seed: int, count: int) -> np.ndarray:
    """Which ``count`` of the names come first by their hash with the seed: int64 (count,), ascending.

    Of more names the same are chosen, but for those that new ones with smaller hashes push out; of a larger count the
    same and others.
    """
    return np.sort(np.argsort(_hashes(names, seed), kind="stable")[:count])


def held_out_by_name(names: Iterable[str], seed: int, fraction: float) -> np.ndarray:
    """Which names are held out: bool (N,), those whose hash with the seed lies in that part of its range.

    A name is held out or not whatever others there are; where no name is, the one with the smallest hash.
    """
    hashes = _hashes(names, seed)
    held_out = hashes < np.uint64(min(int(fraction * 2.0**64), 2**64 - 1))
    if not held_out.any():
        held_out[np.argmin(hashes)] = True
    return np.asarray(held_out)


def _hashes(names: Iterable[str], seed: int) -> np.ndarray:
    """uint64 (N,), uniform."""
    start = f"{seed}\0".encode()
    digests = (hashlib.blake2b(start + _bytes(name), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


@dataclass(frozen=True)
class Listed:
    """The images that lie at a root.

    Args:
        root: In full.
        count: How many.
        digest: Of their names.
        names: Gives them, in order; of a large set they are asked for only where they are needed.
        read: Number of an image -> its file.
    """

    root: str
    count: int
    digest: str
    names: Callable[[], Sequence[str]]
    read: Callable[[int], bytes]

    def title(self, name: str) -> str:
        """How messages name an image."""
        return name if os.path.isabs(name) else os.path.join(self.root, name)


def part_of(listed: Listed, rows: Sequence[int] | np.ndarray | None) -> Record:
    """What is recorded of a set of images: those rows of what is listed, or all."""
    chosen = range(listed.count) if rows is None else [int(row) for row in rows]
    part: Record = {"root": listed.root, "count": len(chosen), "of": listed.count, "of_digest": listed.digest}
    if len(chosen) <= MOST_NAMED:
        names = listed.names()
        part["names"] = [names[row] for row in chosen]
    if len(chosen) <= MOST_HASHED:
        part["sha256"] = [_sha256(listed, row) for row in chosen]
    return part


def recorded_rows(part: Record, listed: Listed) -> list[int] | None:
    """Where the images lie that were recorded; None where the rule tells: of large sets, and of another root's images.

    Says in one line each what has changed on disk: contents, and images that are not used.

    Raises:
        InputError: An image is missing.
    """
    names, unchanged = part.get("names"), part["of_digest"] == listed.digest
    changed = f"{listed.root} has changed since the run began ({part['of']} images then, {listed.count} now)"
    if names is None or (unchanged and listed.count > MOST_NAMED):
        if not unchanged:
            rank_zero_info(f"{changed}: it goes on with those there now, in another order")
        return None
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(listed.names()):
        places[name].append(place)
    missing = [name for name in dict.fromkeys(names) if not places[name]]
    if missing and part["root"] != listed.root:
        rank_zero_info(f"{listed.root}: other images than those the run began with, in {part['root']}: chosen anew")
        return None
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{listed.title(missing[0])}{more}: missing, but the run began with it: put it back, or begin a new run"
        )
    taken = {name: iter(at) for name, at in places.items()}
    rows = [next(taken[name]) for name in names]
    contents: Sequence[str | None] = part.get("sha256") or ()
    other = [names[i] for i, was in enumerate(contents) if _sha256(listed, rows[i]) != was]
    if other:
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        rank_zero_info(f"{listed.title(other[0])}{more}: changed since the run began, the content is another")
    if not unchanged:
        rank_zero_info(f"{changed}: it goes on with its own {len(names)}")
    return rows


def digest_of(names: Iterable[str]) -> str:
    """SHA-256 of names in their order."""
    return hashlib.sha256(b"\0".join(map(_bytes, names))).hexdigest()


def _sha256(listed: Listed, row: int) -> str | None:
    """None where it cannot be read."""
    try:
        return hashlib.sha256(listed.read(row)).hexdigest()
    except ImageError:
        return None


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
