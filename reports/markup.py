"""Pieces of HTML that the sections of the page are built of."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image

from tenshot.reports.svg import colour_class

__all__ = ["code", "figure", "missing", "picture", "section", "swatch", "table", "warning"]

PIXELATED_BELOW = 64
"""Pictures with a smaller side are enlarged by repeating pixels, not by blurring them."""


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page that can be linked to."""
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n' + "\n".join(filter(None, parts)) + "\n</section>"


def table(heads: Sequence[tuple[str, str]], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table; on a narrow screen each row is a card.

    Args:
        heads: (text, markup) of the columns; the first is of the names of the rows.
        rows: (name, cells), markup.
    """
    head = "".join(f'<th scope="col">{markup}</th>' for _, markup in heads)
    labels = [escape(text) for text, _ in heads[1:]]
    lines = [
        f'<tr><th scope="row">{name}</th>'
        + "".join(f'<td data-label="{label}"><div>{cell}</div></td>' for label, cell in zip(labels, cells, strict=True))
        + "</tr>"
        for name, cells in rows
    ]
    body = "\n".join(lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def picture(image: Image.Image, alt: str, tile: int) -> str:
    """The picture itself, in the page.

    Args:
        image: In its own pixels.
        alt: What it shows, in words.
        tile: Side of the pictures that it consists of.
    """
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    content = base64.b64encode(file.getvalue()).decode()
    small = ' class="small"' if tile < PIXELATED_BELOW else ""
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img{small} {size} alt="{escape(alt)}" src="data:image/png;base64,{content}">'


def figure(caption: str, *parts: str) -> str:
    """Something with its caption (markup) above."""
    return f"<figure><figcaption>{caption}</figcaption>{''.join(parts)}</figure>"


def swatch(name: str, colours: Mapping[str, int]) -> str:
    """How a method is drawn, and its name."""
    sample = f'<svg class="swatch {colour_class(colours[name])}" viewBox="0 0 24 8" aria-hidden="true">'
    line = f'<path class="{colour_class(colours[name])}" d="M0 4h24"/></svg>'
    return f'<span class="name">{sample}{line}<span>{escape(name)}</span></span>'


def code(name: str) -> str:
    """A dotted name, which may be broken at its dots and underscores."""
    breakable = re.sub(r"([._/])", r"\1<wbr>", escape(name))
    return f"<code>{breakable}</code>"


def missing(text: str) -> str:
    """What is not there, said in its place."""
    return f'<span class="none">{escape(text)}</span>'


def warning(text: str) -> str:
    """Something to know before reading the numbers."""
    return f'<p class="warn">{escape(text)}</p>'
