"""The comparison as one image: the table of metrics, and samples of the same numbers below each other."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from tenshot.reports.comparison import Cell, Row
from tenshot.reports.conditions import Panel
from tenshot.reports.groups import Group
from tenshot.reports.images import COLUMNS, SHOWN_SIDE, ImageRow, common_numbers, read_images

__all__ = ["sheet"]

MARGIN, LINE, SIZE = 28, 26, 17
SHEET = 1100
INK, SOFT, RULE = "#1c1e21", "#5b6168", "#d9dde2"


def sheet(
    groups: Sequence[Group], rows: Sequence[Row], shots: Sequence[ImageRow], panel: Panel | None = None
) -> Image.Image:
    """Draw it, as wide as the table and ten images need.

    Args:
        groups: The methods; of each, the first run's images are shown.
        rows: Their metrics; what was measured otherwise than most is left to the page.
        shots: What was trained on.
        panel: What the samples were drawn from, and the true images.
    """
    font = ImageFont.load_default(SIZE)
    table = _table(groups, [row for row in rows if row.apart is None])
    widths = [max(int(font.getlength(text)) for text in column) + 26 for column in zip(*table, strict=True)]
    panel = panel or Panel()
    strips = [*panel.conditions, *_strips(groups), *panel.truths]
    strips = [*strips, *shots] if panel.conditions else [*shots, *strips]
    width = max(SHEET, sum(widths) + 2 * MARGIN)
    tile = (width - 2 * MARGIN) // COLUMNS
    height = 2 * MARGIN + LINE * (len(table) + 2) * bool(table) + len(strips) * (tile + LINE)
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    top = MARGIN
    for number, line in enumerate(table):
        left = MARGIN
        for text, space in zip(line, widths, strict=True):
            pen.text((left, top), text, INK if number else SOFT, font)
            left += space
        pen.line([(MARGIN, top + LINE - 3), (width - MARGIN, top + LINE - 3)], RULE)
        top += LINE
    if table:
        note = "mean ± standard deviation over n runs" + (
            "; some were measured otherwise: see the page" if any(row.apart for row in rows) else ""
        )
        pen.text((MARGIN, top + 4), note, SOFT, font)
        top += 2 * LINE
    for strip in strips:
        pen.text((MARGIN, top), strip.title, INK, font)
        for column, pixels in enumerate(strip.images):
            size = (tile - 2, (tile - 2) * pixels.shape[0] // pixels.shape[1])
            way = Image.Resampling.NEAREST if pixels.shape[1] <= tile // 2 else Image.Resampling.LANCZOS
            image.paste(Image.fromarray(pixels).resize(size, way), (MARGIN + column * tile, top + LINE - 2))
        top += tile + LINE
    return image


def _table(groups: Sequence[Group], rows: Sequence[Row]) -> list[list[str]]:
    """A line for each metric below the names of the methods; none where nothing was measured."""
    names = [group.name for group in groups]
    if not rows:
        return []
    return [["", *names], *([row.value, *(_text(row.cells.get(name)) for name in names)] for row in rows)]


def _text(cell: Cell | None) -> str:
    """``1.29 ± 0.03 (3)``."""
    if cell is None:
        return "-"  # the built-in font has no longer dash
    return f"{cell} ({cell.n})"


def _strips(groups: Sequence[Group]) -> list[ImageRow]:
    numbers, found = common_numbers(groups), []
    for group in groups:
        run = next((run for run in group.runs if run.images), None)
        if run is not None and numbers:
            images = read_images([run.images[number] for number in numbers], SHOWN_SIDE)
            found.append(ImageRow(group.title(run), images))
    return found
