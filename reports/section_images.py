"""Images on the page: the same numbers side by side, nearest shots, strips between latents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from tenshot.errors import InputError
from tenshot.reports.conditions import Panel
from tenshot.reports.groups import Group
from tenshot.reports.images import SHOWN_SIDE, ImageRow, Nearest, Pixels, common_numbers, read_images, strip
from tenshot.reports.markup import Inline, render
from tenshot.reports.run import Key, Run
from tenshot.reports.shots import NotAvailable

__all__ = ["samples_section", "shots_section", "strips_section"]

BLOCK = 5
"""Columns that stay together on a narrow screen."""
LARGEST = 1200
"""Grids and strips are shown at most this wide."""


@dataclass(frozen=True)
class Figure:
    """An image, and the run that it is of or a title."""

    image: Inline
    group: Group | None = None
    run: Run | None = None
    title: str = ""
    names: Sequence[Key] = ()


def samples_section(
    groups: Sequence[Group], shots: Sequence[ImageRow], panel: Panel, colours: Mapping[str, int]
) -> Markup:
    """Rows of samples with the same numbers, in blocks that stand side by side or one below the other."""
    numbers = common_numbers(groups)
    runs = [(group, run) for group in groups for run in group.runs]
    starts = range(0, len(numbers), BLOCK)
    named = any(isinstance(number, str) for number in numbers)
    blocks = [
        [
            *_rows([] if panel.conditions else shots, i),
            *_rows(panel.conditions, i, numbers if named else ()),
            *_samples(runs, numbers[i : i + BLOCK]),
            *_rows(panel.truths, i),
            *_rows(shots if panel.conditions else [], i),  # not where they would seem to belong to the conditions
        ]
        for i in starts
    ]
    grids = [(group, run, run.last("samples")) for group, run in runs if not run.images]
    configured = [run.config for _, run in runs if run.images and run.config]
    return render(
        "samples.html",
        colours=colours,
        blocks=blocks,
        named=named,
        apart=not blocks and any(run.images for _, run in runs),
        conditional=any(run.drawn_from for _, run in runs),
        absent=panel.absent,
        seeds=sorted({str(config.get(name, 0)) for config in configured for name in ("images.seed", "evaluate.seed")}),
        grids=[Figure(_whole(grid, "samples"), group, run) for group, run, grid in grids if grid],
        undrawn=[group.title(run) for group, run, grid in grids if not grid],
    )


def _rows(sets: Sequence[ImageRow], start: int, names: Sequence[Key] = ()) -> Iterator[Figure]:
    """A block of each set of images, where there are so many."""
    for few in sets:
        block = few.images[start : start + BLOCK]
        if len(block):
            image = Inline(strip(_padded(block)), f"{len(block)} {few.title}", block.shape[1])
            yield Figure(image, title=few.title, names=names[start : start + BLOCK])


def _samples(runs: Sequence[tuple[Group, Run]], numbers: Sequence[Key]) -> Iterator[Figure]:
    """The samples of these numbers, of each run that has samples."""
    for group, run in runs:
        if run.images:
            pixels = read_images([run.images[number] for number in numbers], SHOWN_SIDE)
            alt = f"samples {', '.join(map(str, numbers))} of {group.title(run)}"
            yield Figure(Inline(strip(_padded(pixels)), alt, pixels.shape[1]), group, run)


def _padded(images: Pixels) -> Pixels:
    """White ones to fill a block, so that images of all blocks are shown of one size."""
    white = np.full((BLOCK - len(images), *images.shape[1:]), 255, np.uint8)
    return np.concatenate([images, white])


def _whole(path: Path, what: str) -> Inline:
    """An image as the run left it."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}): delete it or draw it again") from None
    if image.width > LARGEST:
        image = image.resize((LARGEST, round(image.height * LARGEST / image.width)), Image.Resampling.BOX)
    return Inline(image, what, image.width)


def shots_section(
    groups: Sequence[Group], found: Mapping[str, Nearest | NotAvailable], colours: Mapping[str, int]
) -> Markup:
    """The samples of each method that are most like a training image, each above it."""
    pairs: list[tuple[Group, Nearest, Inline]] = []
    absent: list[tuple[str, str]] = []
    for group in groups:
        nearest = found[group.name]
        if isinstance(nearest, NotAvailable):
            absent.append((group.name, str(nearest)))
        else:
            pairs.append((group, nearest, _above(nearest, group.name)))
    return render("shots.html", colours=colours, pairs=pairs, absent=absent)


def _above(nearest: Nearest, name: str) -> Inline:
    above, below = strip(nearest.samples), strip(nearest.shots)
    pair = Image.new("RGB", (above.width, above.height + below.height))
    pair.paste(above, (0, 0))
    pair.paste(below, (0, above.height))
    alt = f"samples {', '.join(map(str, nearest.numbers))} of {name} above their nearest training images"
    return Inline(pair, alt, nearest.samples.shape[1])


def strips_section(groups: Sequence[Group], colours: Mapping[str, int]) -> Markup:
    """The last strip between latents of each run that has one."""
    found = [(group, run, path) for group in groups for run in group.runs if (path := run.last("strips"))]
    strips = [
        Figure(_whole(path, f"images between latents of {group.name}"), group, run, path.stem.replace("=", " "))
        for group, run, path in found
    ]
    without = [group.name for group in groups if not any(run.last("strips") for run in group.runs)]
    return render("strips.html", colours=colours, strips=strips, without=without)
