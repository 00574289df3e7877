"""How parts become a picture: flat colours under a lamp, a pen on paper, or a brush."""

from collections.abc import Iterable

import torch
from torch import Tensor

from tenshot.datamodules.faces.attributes import FaceAttributes
from tenshot.datamodules.faces.counter import lattice
from tenshot.datamodules.faces.parts import Part, per_picture
from tenshot.datamodules.faces.shapes import Canvas

__all__ = ["PEN", "brush", "coloured", "inked", "oiled"]

PEN = 0.014  # half the width of a pen's line, in half picture sizes
_INK = 0.1  # its grey value on paper of 1
_HATCHING = 0.09  # from one line of it to the next
_EARTH = (1.0, 0.9, 0.7)  # an old varnish
_TONES = 5  # steps of each colour in oil


def coloured(attributes: FaceAttributes, parts: Iterable[Part], canvas: Canvas) -> Tensor:
    """Flat colours under a lamp: float32 (N, 3, H, W) in [0, 1]."""
    slope = attributes.background_gradient[:, :, None, None]
    wall = 1 + slope[:, 0] * canvas.x + slope[:, 1] * canvas.y
    picture = attributes.background[:, :, None, None] * wall[:, None]
    for part in parts:
        cover = canvas.cover(part.distance, part.softness)[:, None]
        if part.opacity < 1:
            cover = cover * part.opacity
        if part.within is not None:
            cover = cover * canvas.cover(part.within)[:, None]
        colour = part.colour[:, :, None, None]
        if part.light is not None:
            colour = colour * part.light[:, None]
        picture += (colour - picture) * cover
    return picture.clamp(0, 1)


def inked(attributes: FaceAttributes, parts: Iterable[Part], canvas: Canvas) -> Tensor:
    """Dark lines on white paper, the hair hatched, the thicker the darker it is: float32 (N, 3, H, W) in [0, 1]."""
    red, green, blue = attributes.hair.unbind(1)
    darkness = per_picture(0.85 - 0.5 * (red + green + blue) / 3)
    phase = (canvas.x * _side(attributes.parting) + canvas.y) / _HATCHING
    hatch = canvas.cover((phase - phase.round()).abs() * _HATCHING - 0.03 * darkness) * darkness
    ink = torch.zeros(())
    for part in parts:
        if part.region is None:
            continue
        tone = hatch if part.region == "hair" else part.ink
        ink = ink + (tone - ink) * canvas.cover(part.distance)
        if part.outlined:
            ink = ink + (1 - ink) * canvas.cover(part.distance.abs() - PEN)
    return (1 - (1 - _INK) * ink)[:, None].expand(-1, 3, -1, -1)


def brush(attributes: FaceAttributes, canvas: Canvas) -> tuple[Canvas, Tensor]:
    """Where a brush picks up the colour of each point, and how thickly it leaves it.

    Returns:
        The canvas with its points displaced along strokes, and a brightness factor (N, H, W) about 1.
    """
    keys, side = attributes.texture, _side(attributes.parting)
    bend = 0.12 * _noise(keys, 0, canvas.x * 3, canvas.y * 3)
    along = canvas.x * side * 0.8 + canvas.y * 0.6
    across = canvas.y * 0.8 - canvas.x * side * 0.6 + bend
    broad = _noise(keys, 1, along * 5, across * 18) - 0.5
    other = _noise(keys, 2, along * 5, across * 18) - 0.5
    bristles = _noise(keys, 3, along * 6, across * 40) - 0.5
    displaced = Canvas(canvas.x + 0.05 * broad, canvas.y + 0.05 * other, canvas.pixel)
    return displaced, 1 + 0.22 * bristles + 0.12 * broad


def oiled(picture: Tensor, thickness: Tensor) -> Tensor:
    """Few tones in earthen colours, with the relief of the strokes.

    picture: (N, 3, H, W) in [0, 1]; thickness: (N, H, W) from ``brush``  ->  (N, 3, H, W) in [0, 1]
    """
    steps = picture * thickness[:, None] * _TONES
    low = steps.floor()
    tones = (low + ((steps - low - 0.5) * 4 + 0.5).clamp(0, 1)) / _TONES  # steps with short ramps between
    grey = (tones[:, 0:1] + tones[:, 1:2] + tones[:, 2:3]) / 3
    muted = grey + (tones - grey) * 0.8
    return (muted * torch.tensor(_EARTH)[None, :, None, None] * 0.92 + 0.04).clamp(0, 1)


def _side(parting: Tensor) -> Tensor:
    """Which way a hand draws: -1 or 1, (N, 1, 1), mirrored with the head."""
    return per_picture(torch.where(parting < 0, -1.0, 1.0))


def _noise(keys: Tensor, layer: int, x: Tensor, y: Tensor) -> Tensor:
    """Value noise in [0, 1): uniform numbers where x and y are whole, smooth between. |x| < 15, |y| < 63: (N, H, W)."""
    columns, rows = 32, 128
    nodes = lattice(keys, rows, columns, layer).flatten(1)
    x, y = torch.broadcast_tensors(x + columns / 2, y + rows / 2)
    x, y = x.expand(len(keys), -1, -1), y.expand(len(keys), -1, -1)
    column, row = x.floor(), y.floor()
    s, t = x - column, y - row
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    corner = (row * columns + column).long().flatten(1)

    def node(offset: int) -> Tensor:
        return nodes.gather(1, corner + offset).view(x.shape)

    upper = node(0) + (node(1) - node(0)) * s
    lower = node(columns) + (node(columns + 1) - node(columns)) * s
    return upper + (lower - upper) * t
