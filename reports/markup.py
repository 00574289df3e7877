"""The page's templates, filled: whatever a run is called or was told is escaped, as text and in attributes."""

import base64
import io
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from tenshot.reports.svg import colour_class

__all__ = ["Inline", "render"]

PIXELATED_BELOW = 64
"""Images with a smaller side are enlarged by repeating pixels, not by blurring them."""


@dataclass(frozen=True)
class Inline:
    """An image that is in the page itself.

    Args:
        image: In its own pixels.
        alt: What it shows, in words.
        tile: Side of the images that it consists of.
    """

    image: Image.Image
    alt: str
    tile: int

    @property
    def width(self) -> int:
        """In pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """In pixels."""
        return self.image.height

    @property
    def small(self) -> bool:
        """Whether it is enlarged by repeating pixels."""
        return self.tile < PIXELATED_BELOW

    @property
    def png(self) -> str:
        """The file, in base64."""
        file = io.BytesIO()
        self.image.save(file, "PNG", optimize=True)
        return base64.b64encode(file.getvalue()).decode()


def render(template: str, **values: Any) -> Markup:
    """Fill a file of ``templates/``; values that are no Markup are escaped.

    Raises:
        jinja2.UndefinedError: The template names a value that is not given.
    """
    return Markup(_environment().get_template(template).render(values))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tenshot.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"anchor": _anchor, "breakable": _breakable, "short": _short}
    environment.globals |= {"colour_class": colour_class, "zip": _zip}
    return environment


def _zip(*columns: Any) -> Any:
    return zip(*columns, strict=True)


def _breakable(name: str) -> Markup:
    """Where a dotted name may be broken: after dots, underscores and slashes."""
    return Markup("<wbr>").join(re.split(r"(?<=[._/])", name))


def _anchor(value: str) -> str:
    return re.sub(r"\W", "-", value)


def _short(value: object) -> str:
    """A hash by its beginning."""
    text = "none" if value is None else str(value)
    return f"{text[:12]}…" if re.fullmatch(r"[0-9a-f]{64}", text) else text
