"""How parts become an image: flat colours under a lamp, a pen on paper, or a brush."""

from collections.abc import Iterable

import torch
from torch import Tensor

from tenshot.datamodules.faces.attributes import FaceAttributes
from tenshot.datamodules.faces.counter import lattice
from tenshot.datamodules.faces.parts import Part, per_image
from tenshot.datamodules.faces.shapes import Canvas

__all__ = ["PEN", "Planes", "brush", "coloured", "inked", "oiled"]

Planes = list[Tensor]  # red, green and blue, each (N, H, W) in [0, 1]

PEN = 0.014  # half the width of a pen's line, in half image sizes
_INK = 0.1  # its grey value on paper of 1
_HATCHING = 0.09  # from one line of it to the next
_EARTH = (0.92, 0.83, 0.64)  # red, green and blue that an old varnish lets through
_TONES = 5  # steps of each colour in oil


def coloured(attributes: FaceAttributes, parts: Iterable[Part], canvas: Canvas) -> Planes:
    """Flat colours under a lamp."""
    right, down = (per_image(slope) for slope in attributes.background_gradient.unbind(1))
    wall = 1 + right * canvas.x + down * canvas.y
    planes = [per_image(colour) * wall for colour in attributes.background.unbind(1)]
    for part in parts:
        cover = canvas.cover(part.distance, part.softness)
        if part.opacity < 1:
            cover *= part.opacity
        if part.within is not None:
            cover *= canvas.cover(part.within)
        for plane, colour in zip(planes, part.colour.unbind(1), strict=True):
            lit = per_image(colour) if part.light is None else per_image(colour) * part.light
            plane += (lit - plane) * cover
    return [plane.clamp(0, 1) for plane in planes]


def inked(attributes: FaceAttributes, parts: Iterable[Part], canvas: Canvas) -> Planes:
    """Dark lines on white paper, the hair hatched, the thicker the darker it is."""
    red, green, blue = attributes.hair.unbind(1)
    darkness = per_image(0.85 - 0.5 * (red + green + blue) / 3)
    phase = (canvas.x * _side(attributes.parting) + canvas.y) / _HATCHING + 99.5  # positive
    hatch = canvas.cover((phase - phase.int() - 0.5).abs() * _HATCHING - 0.03 * darkness) * darkness
    ink = torch.zeros(())
    for part in parts:
        if part.region is None:
            continue
        tone = hatch if part.region == "hair" else part.ink
        ink = ink + (tone - ink) * canvas.cover(part.distance)
        if part.outlined:
            ink = ink + (1 - ink) * canvas.cover(part.distance.abs() - PEN)
    return [1 - (1 - _INK) * ink] * 3


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


def oiled(planes: Planes, thickness: Tensor) -> Planes:
    """Few tones in earthen colours, with the relief of the strokes: ``thickness``, (N, H, W), comes from ``brush``."""
    red, green, blue = tones = [_stepped(plane * thickness * _TONES) / _TONES for plane in planes]
    grey = (red + green + blue) / 3
    return [
        ((grey + (tone - grey) * 0.8) * varnish + 0.04).clamp(0, 1) for tone, varnish in zip(tones, _EARTH, strict=True)
    ]


def _stepped(x: Tensor) -> Tensor:
    """Stairs of width and height 1, with short ramps between, for x >= 0."""
    low = x.int()
    return low + ((x - low - 0.5) * 4 + 0.5).clamp(0, 1)


def _side(parting: Tensor) -> Tensor:
    """Which way a hand draws: -1 or 1, (N, 1, 1), mirrored with the head."""
    return per_image(torch.where(parting < 0, -1.0, 1.0))


def _noise(keys: Tensor, layer: int, x: Tensor, y: Tensor) -> Tensor:
    """Value noise in [0, 1): uniform numbers where x and y are whole, smooth between. |x| < 15, |y| < 63: (N, H, W)."""
    columns, rows = 32, 128
    nodes = lattice(keys, rows, columns, layer).flatten(1)
    x, y = torch.broadcast_tensors(x + columns / 2, y + rows / 2)
    x, y = x.expand(len(keys), -1, -1), y.expand(len(keys), -1, -1)
    column, row = x.int(), y.int()  # positive, so these round down
    s, t = x - column, y - row
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    corner = (row * columns + column).long().flatten(1)

    def node(offset: int) -> Tensor:
        return nodes.gather(1, corner + offset).view(x.shape)

    upper = node(0) + (node(1) - node(0)) * s
    lower = node(columns) + (node(columns + 1) - node(columns)) * s
    return upper + (lower - upper) * t
