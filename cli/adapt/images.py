"""A look at a handful of images before a generator is adapted to them: what each is, which are alike, which is not."""

from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.datamodules.pixels import from_pixels
from tenshot.datamodules.reading import ImageError, file_bytes, fitted, list_images, opened, require_size
from tenshot.errors import InputError
from tenshot.models.features.efficientnet_lite0 import EfficientNetLite0Distance, EfficientNetLite0Features

__all__ = ["Shots", "findings", "near_duplicates", "odd_ones_out", "read_shots"]

FEW, MANY = 5, 100
"""Numbers of images below and above which something is said."""
MOST_COMPARED = 200
"""Images that are compared with each other; of more, each takes 1.4 MB, and each pair is to be looked at."""

COPY_SHARE = 0.5
"""Near-duplicates are nearer than this share of the median distance, for drawings are all near to each other (with
nearest ones at 0.4 to 1.6, where those of photographs are beyond 6), and than ``copy_distance``, for JPEG copies of any
set are at 0.2 to 1.9."""
ODD_RATIO, ODD_Z = 1.35, 4.0
"""How far, over the median and in robust standard deviations, the mean distance of an image to the others is to be for
it to be called odd: between these lay a photograph among drawings, or a sketch among faces, and none of their own."""

SHOWN = 3
"""How many files a line names."""


@dataclass(frozen=True)
class Shots:
    """Images as they were read.

    Args:
        folder: Where they are.
        names: Of the files, in the folder.
        digests: SHA-256 of the files.
        contents: SHA-256 of their pixels, at their own size.
        sizes: Width and height of each.
        pixels: (N, 3, S, S) uint8, as the network is to see them.
    """

    folder: Path
    names: list[str]
    digests: list[str]
    contents: list[bytes]
    sizes: list[tuple[int, int]]
    pixels: Tensor


def read_shots(folder: str, size: int) -> Shots:
    """Read all images of a folder and of those below it.

    Args:
        folder: Where they are.
        size: Side of the network's images in pixels.

    Raises:
        InputError: There is no such folder, less than two images are in it, or some cannot be used.
    """
    files = list_images(folder, "FOLDER")
    if len(files) < 2:
        raise InputError(f"{folder} holds a single image ({files[0].name}): give at least two, ten are better")
    digests, contents, sizes, pixels = [], [], [], []
    refused: list[ImageError] = []
    for file in files:
        try:
            data = file_bytes(file)
            image = opened(data, str(file))
            require_size(image, str(file), size, "that of the --source")
        except ImageError as error:
            refused.append(error)
            continue
        digests.append(sha256(data).hexdigest())
        contents.append(sha256(f"{image.size}".encode() + image.tobytes()).digest())
        sizes.append(image.size)
        pixels.append(fitted(image, size))
    if refused:
        others = f" ({_count(len(refused) - 1, 'other image')} of {len(files)} cannot be used either)"
        raise InputError(f"{refused[0]}{others if len(refused) > 1 else ''}")
    names = [file.relative_to(folder).as_posix() for file in files]
    return Shots(Path(folder), names, digests, contents, sizes, torch.stack(pixels))


def findings(shots: Shots) -> list[tuple[str, str]]:
    """What there is to say of images: a heading of a word, and the text."""
    names, sizes, side, count = shots.names, shots.sizes, shots.pixels.shape[-1], len(shots.names)
    found = [("images", f"{count} in {shots.folder}{_of_their_number(count)}")]
    least, most = min(sizes, key=min), max(sizes, key=min)
    between = f"{_by(least)} to {_by(most)}" if least != most else f"all {_by(least)}"
    found.append(("sizes", f"{between}; trained on at {side} x {side}"))
    if small := [name for name, size in zip(names, sizes, strict=True) if min(size) < side]:
        found.append(("small", f"{_some(small)}: enlarged to {side} x {side}, no sharper than they are"))
    oblong = {name: 1 - min(size) / max(size) for name, size in zip(names, sizes, strict=True) if size[0] != size[1]}
    if oblong:
        worst = max(oblong, key=lambda name: oblong[name])
        lost = f"{oblong[worst]:.0%} of {worst} is cut off{', of others less' if len(oblong) > 1 else ''}"
        found.append(("cropped", f"{len(oblong)} of {count} are not square, their centre is used: {lost}"))
    same = _same(shots)
    found += [("twice", f"{' = '.join(group)}, the same pixels: counted as {len(group)} images") for group in same]
    if count > MOST_COMPARED:
        return [*found, ("alike", f"not looked for among more than {MOST_COMPARED} images")]
    images = from_pixels(shots.pixels)
    known = {frozenset(pair) for group in same for pair in combinations(group, 2)}
    alike = {(names[i], names[j]): distance for i, j, distance in near_duplicates(images)}
    alike = {pair: distance for pair, distance in alike.items() if frozenset(pair) not in known}
    if alike:
        pairs = [f"{' and '.join(pair)} ({distance:.1f})" for pair, distance in alike.items()]
        found.append(("alike", f"{_some(pairs)}: nearly the same image, by the distance of features"))
    for number, ratio in odd_ones_out(images):
        found.append(("odd", f"{names[number]}: {ratio:.1f} times as far from the others as most are from each other"))
    if found[-1][0] in ("twice", "alike", "odd"):
        found.append(("", "nothing is left out: move files away that do not belong there"))
    return found


def near_duplicates(images: Tensor) -> list[tuple[int, int, float]]:
    """Pairs that are nearly the same image, with their distance (EfficientNet-Lite0's), the nearest first.

    images: (N, 3, H, W) float32 in [-1, 1]; of two alone nothing can be told
    """
    network = EfficientNetLite0Distance()
    taps = zip(*(network.embed(part) for part in images.split(4)), strict=True)
    squares = [
        torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist") ** 2 for rows in map(torch.cat, taps)
    ]
    first, second = torch.triu_indices(len(images), len(images), 1)
    distances = torch.stack(squares).sum(dim=0)[first, second]
    limit = min(network.copy_distance, COPY_SHARE * distances.median().item())
    order = distances.argsort()
    near = order[distances[order] < limit].tolist()
    return [(int(first[pair]), int(second[pair]), distances[pair].item()) for pair in near]


def odd_ones_out(images: Tensor) -> list[tuple[int, float]]:
    """Images unlike all others, and how many times as far from them as the median image is, the farthest first.

    images: (N, 3, H, W) float32 in [-1, 1]; of less than five nothing can be told
    """
    if len(images) < FEW:
        return []
    rows = F.normalize(EfficientNetLite0Features()(images), dim=1)
    mean = (1 - rows @ rows.T).sum(dim=1) / (len(images) - 1)  # (N,) cosine distance to the others
    median = mean.median()
    spread = 1.4826 * (mean - median).abs().median()  # of a normal distribution its standard deviation
    odd = (mean > ODD_RATIO * median) & (mean - median > ODD_Z * spread)
    found = [(number, (mean[number] / median).item()) for number in odd.nonzero().flatten().tolist()]
    return sorted(found, key=lambda one: -one[1])


def _of_their_number(count: int) -> str:
    if count < FEW:
        return ": very few, so samples will resemble them closely; one more image helps more than any option"
    if count > MANY:
        return ": more than few-shot methods need, and a longer training may use them better (--steps)"
    return ""


def _same(shots: Shots) -> list[list[str]]:
    """Names of images of the same pixels, group by group."""
    groups: dict[bytes, list[str]] = {}
    for name, content in zip(shots.names, shots.contents, strict=True):
        groups.setdefault(content, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _some(words: list[str]) -> str:
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {_count(more, 'other')}" if more > 0 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
