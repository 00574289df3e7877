"""Pictures on the page: the same numbers side by side, nearest shots, strips between latents."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

from tenshot.errors import InputError
from tenshot.reports.groups import Group
from tenshot.reports.markup import figure, missing, picture, section, swatch, warning
from tenshot.reports.pictures import SHOWN_SIDE, Nearest, PictureRow, Pixels, common_numbers, read_pictures, strip
from tenshot.reports.run import Run
from tenshot.reports.shots import NotAvailable

__all__ = ["samples_section", "shots_section", "strips_section"]

BLOCK = 5
"""Columns that stay together on a narrow screen."""
LARGEST = 1200
"""Grids and strips are shown at most this wide."""


def samples_section(groups: Sequence[Group], shots: Sequence[PictureRow], colours: Mapping[str, int]) -> str:
    """Rows of samples with the same numbers, in blocks that stand side by side or one below the other."""
    numbers = common_numbers(groups)
    parts = []
    if numbers:
        parts.append(_about_seeds(groups))
        blocks = [numbers[i : i + BLOCK] for i in range(0, len(numbers), BLOCK)]
        columns = []
        for place, block in enumerate(blocks):
            rows = [_shots_row(few, place) for few in shots]
            for group in groups:
                rows += [_samples_row(group, run, block, colours) for run in group.runs if run.images]
            columns.append(f"<div>{''.join(rows)}</div>")
        parts.append(f'<div class="blocks">{"".join(columns)}</div>')
    without = [(group, run) for group in groups for run in group.runs if not run.images]
    grids = [(group, run, grid) for group, run in without if (grid := run.last("samples"))]
    if grids:
        parts.append(
            "<h3>Last sample grids</h3><p>Of runs that have no pictures in images/: the first training pictures above, "
            "samples below. The columns are those of the table above only if grid and images have the same seed.</p>"
        )
        figures = [figure(_title(group, run, colours), _whole(grid, "samples")) for group, run, grid in grids]
        parts.append(f'<div class="wide">{"".join(figures)}</div>')
    none = [group.title(run) for group, run in without if not run.last("samples")]
    if none:
        parts.append(f"<p>{missing('No pictures of ' + '; '.join(none) + ': draw some with tenshot predict.')}</p>")
    return section("samples", "Samples", *parts)


def _about_seeds(groups: Sequence[Group]) -> str:
    runs = [run for group in groups for run in group.runs if run.images and run.config]
    seeds = {str(run.config.get(name, 0)) for run in runs for name in ("images.seed", "evaluate.seed")}
    about = (
        "<p>A column is one number of images/: sample i depends on (seed, i) alone, so methods with the same network "
        "and sampler start from the same noise in each column.</p>"
    )
    if len(seeds) > 1:
        told = f"The configured seeds of the samples differ ({', '.join(sorted(seeds))}): "
        return about + warning(told + "columns of different runs need not start from the same noise.")
    return about


def _shots_row(shots: PictureRow, place: int) -> str:
    block = shots.pictures[place * BLOCK : (place + 1) * BLOCK]
    if not len(block):
        return ""
    return figure(
        escape(shots.title), picture(strip(_padded(block)), f"{len(block)} training pictures", block.shape[1])
    )


def _samples_row(group: Group, run: Run, numbers: Sequence[int], colours: Mapping[str, int]) -> str:
    pixels = read_pictures([run.images[number] for number in numbers], SHOWN_SIDE)
    alt = f"samples {', '.join(map(str, numbers))} of {group.title(run)}"
    return figure(_title(group, run, colours), picture(strip(_padded(pixels)), alt, pixels.shape[1]))


def _padded(pictures: Pixels) -> Pixels:
    """White ones to fill a block, so that pictures of all blocks are shown of one size."""
    white = np.full((BLOCK - len(pictures), *pictures.shape[1:]), 255, np.uint8)
    return np.concatenate([pictures, white])


def _title(group: Group, run: Run, colours: Mapping[str, int]) -> str:
    label = group.label(run)
    note = "" if label == group.name else f' <span class="note">{escape(label)}</span>'
    return swatch(group.name, colours) + note


def _whole(path: object, what: str) -> str:
    """A picture as the run left it."""
    try:
        with Image.open(str(path)) as file:
            image = file.convert("RGB")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}): delete it or draw it again") from None
    if image.width > LARGEST:
        image = image.resize((LARGEST, round(image.height * LARGEST / image.width)), Image.Resampling.BOX)
    return picture(image, what, image.width)


def shots_section(groups: Sequence[Group], found: Mapping[str, Nearest | NotAvailable], colours: dict[str, int]) -> str:
    """The samples of each method that are most like a training picture, each above it."""
    figures, absent = [], []
    for group in groups:
        nearest = found[group.name]
        if isinstance(nearest, NotAvailable):
            absent.append(f"{escape(group.name)}: not available, {escape(str(nearest))}")
            continue
        above, below = strip(nearest.samples), strip(nearest.shots)
        pair = Image.new("RGB", (above.width, above.height + below.height))
        pair.paste(above, (0, 0))
        pair.paste(below, (0, above.height))
        alt = f"samples {', '.join(map(str, nearest.numbers))} of {group.name} above their nearest training pictures"
        told = "".join(f"<small>{distance:.0f}</small>" for distance in nearest.distances)
        about = f"{escape(group.label(group.runs[0]))}; median of {nearest.count} samples: {nearest.median:.0f}"
        figures.append(
            figure(
                f"{swatch(group.name, colours)} <small>{about}</small>",
                picture(pair, alt, nearest.samples.shape[1]),
                f'<div class="distances">{told}</div>',
            )
        )
    return section(
        "shots",
        "Nearest training pictures",
        "<p>The samples of each method's first run that come nearest to a training picture (above), and that picture "
        "(below), with the distance between them: root of the mean squared difference of pixels, 0 to 255. Copies are "
        "near 0. What is alike to the eye may be far in pixels.</p>",
        f'<div class="pairs">{"".join(figures)}</div>' if figures else "",
        *(f'<p class="none">{text}</p>' for text in absent),
    )


def strips_section(groups: Sequence[Group], colours: Mapping[str, int]) -> str:
    """The last strip between latents of each run that has one."""
    found = [(group, run, path) for group in groups for run in group.runs if (path := run.last("strips"))]
    if not found:
        why = "No run has strips: they need a method with latents, and --strip.every_n_steps."
        return section("strips", "Between latents", f"<p>{missing(why)}</p>")
    figures = [
        figure(
            f"{_title(group, run, colours)} <small>{escape(path.stem.replace('=', ' '))}</small>",
            _whole(path, f"pictures between latents of {group.name}"),
        )
        for group, run, path in found
    ]
    without = [group.name for group in groups if not any(run.last("strips") for run in group.runs)]
    note = f"<p>{missing('None of ' + ', '.join(without) + '.')}</p>" if without else ""
    about = "<p>Each row goes from one latent to another in equal steps.</p>"
    return section("strips", "Between latents", about, f'<div class="wide">{"".join(figures)}</div>', note)
