"""Images of runs: the same numbers in the same columns, and each with the training image it is nearest to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tenshot.errors import InputError
from tenshot.reports.groups import Group
from tenshot.reports.run import Key, Run
from tenshot.reports.shots import NotAvailable, shots_of

__all__ = [
    "COLUMNS",
    "ImageRow",
    "Nearest",
    "Pixels",
    "common_numbers",
    "nearest_of",
    "read_images",
    "shot_sets",
    "strip",
]  # fmt: skip

COLUMNS = 10
"""Samples shown of each run."""
SHOWN_SIDE = 128
"""Images are shown at most this large."""
COMPARED_SIDE = 64
"""... and compared with each other."""
MOST_COMPARED = 1000
MOST_SETS = 4
"""Sets of shots that are shown: of more none is, each run has its own."""

Pixels = NDArray[np.uint8]
"""(N, H, W, 3)"""


@dataclass(frozen=True)
class ImageRow:
    """Images (n, H, W, 3) and what they are."""

    title: str
    images: Pixels


@dataclass(frozen=True)
class Nearest:
    """The samples of a run that come nearest to a training image, the nearest first.

    Args:
        numbers: Of the samples.
        samples: These (n, H, W, 3).
        shots: The training image next to each, mirrored where that is nearer and the run mirrors.
        distances: Between them: root of the mean squared difference of their values of 0 ... 255.
        median: Of that distance over all samples.
        count: How many samples there are.
    """

    numbers: list[Key]
    samples: Pixels
    shots: Pixels
    distances: list[float]
    median: float
    count: int


def read_images(paths: Sequence[Path], side: int | None = None) -> Pixels:
    """Images of one size, as files hold them or averaged down to at most ``side``.

    Raises:
        InputError: A file is no image, or of another size than the first.
    """
    images: list[Pixels] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                pixels = np.asarray(smaller(image.convert("RGB"), side))
        except (OSError, SyntaxError) as error:
            raise InputError(f"{path}: cannot be read ({type(error).__name__}): draw it again or delete it") from None
        if images and pixels.shape != images[0].shape:
            (h, w), (first_h, first_w) = pixels.shape[:2], images[0].shape[:2]
            raise InputError(
                f"{path}: is {w} x {h}, {paths[0].name} beside it {first_w} x {first_h}: clear the folder and draw anew"
            )
        images.append(pixels)
    return np.stack(images)


def smaller(image: Image.Image, side: int | None) -> Image.Image:
    """At most ``side`` wide, by area average."""
    if side is None or image.width <= side:
        return image
    return image.resize((side, max(1, round(image.height * side / image.width))), Image.Resampling.BOX)


def common_numbers(groups: Sequence[Group]) -> list[Key]:
    """The first numbers, or names of conditions, that every run with images has an image of."""
    sets = [set(run.images) for group in groups for run in group.runs if run.images]
    common = set.intersection(*sets) if sets else set()
    return sorted(common, key=lambda key: f"{key:012}" if isinstance(key, int) else key)[:COLUMNS]


def shot_sets(groups: Sequence[Group]) -> list[ImageRow]:
    """The different training images of all runs that have few, where these are a few sets."""
    found: dict[bytes, tuple[Pixels, list[str]]] = {}
    for group in groups:
        for run in group.runs:
            try:
                images = shots_of(run)
            except NotAvailable:
                continue
            labels = found.setdefault(images.tobytes(), (images, []))[1]
            if group.label(run) not in labels:
                labels.append(group.label(run))
    if len(found) > MOST_SETS:
        return []
    title = "training images"
    return [
        ImageRow(title if len(found) == 1 else f"{title} of {', '.join(labels)}", shrunk(images[:COLUMNS], SHOWN_SIDE))
        for images, labels in found.values()
    ]


def strip(images: Pixels, gap: int = 0) -> Image.Image:
    """Images in a row."""
    _, height, width, _ = images.shape
    row = Image.new("RGB", (len(images) * (width + gap) - gap, height), "white")
    for column, pixels in enumerate(images):
        row.paste(Image.fromarray(pixels), (column * (width + gap), 0))
    return row


def nearest_of(run: Run, count: int = 6) -> Nearest:
    """Compare a run's images with its shots, pixel by pixel.

    Raises:
        NotAvailable: It has no images, or its shots are not to be had.
    """
    if not run.images:
        raise NotAvailable("there are no images in images/: draw some with tenshot predict")
    shots = shots_of(run)
    numbers = list(run.images)[:MOST_COMPARED]
    with Image.open(run.images[numbers[0]]) as image:
        size = (image.height, image.width)
    if size != shots.shape[1:3]:
        raise NotAvailable(f"its images are {size[1]} x {size[0]}, its shots {shots.shape[2]} x {shots.shape[1]}")
    mirrored = np.concatenate([shots, shots[:, :, ::-1]]) if run.config.get("data.flip") else shots
    samples = read_images([run.images[number] for number in numbers], COMPARED_SIDE)
    distances = distance_matrix(samples, shrunk(mirrored, COMPARED_SIDE))
    to_nearest, which = distances.min(axis=1), distances.argmin(axis=1)
    order = np.argsort(to_nearest, kind="stable")[:count]
    chosen = [numbers[i] for i in order]
    return Nearest(
        chosen,
        read_images([run.images[number] for number in chosen], SHOWN_SIDE),
        shrunk(mirrored[which[order]], SHOWN_SIDE),
        to_nearest[order].tolist(),
        float(np.median(to_nearest)),
        len(numbers),
    )


def shrunk(images: Pixels, side: int) -> Pixels:
    """Images (N, H, W, 3) at most ``side`` wide."""
    return np.stack([np.asarray(smaller(Image.fromarray(pixels), side)) for pixels in images])


def distance_matrix(a: Pixels, b: Pixels) -> NDArray[np.float64]:
    """(N, H, W, 3), (M, H, W, 3)  ->  (N, M), root of the mean squared difference of their values."""
    rows, columns = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    squares = (rows**2).sum(1)[:, None] + (columns**2).sum(1)[None] - 2 * rows @ columns.T
    return np.sqrt(np.maximum(squares, 0) / rows.shape[1])
