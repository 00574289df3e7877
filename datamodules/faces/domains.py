"""The domains: the same heads in flat colours, with sunglasses, as babies, drawn with a pen, painted with a brush."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tenshot.datamodules.faces.attributes import FaceAttributes
from tenshot.datamodules.faces.features import eyes_and_brows, lenses, mouth, nose, temples
from tenshot.datamodules.faces.hair import Fluff, Hair
from tenshot.datamodules.faces.head import head, neck, shoulders
from tenshot.datamodules.faces.parts import Part, Pose
from tenshot.datamodules.faces.shapes import Canvas, pixel_grid
from tenshot.datamodules.faces.styles import Planes, brush, coloured, inked, oiled

__all__ = ["DOMAINS", "parts", "piecewise", "render", "to_byte"]

DOMAINS = ("faces", "sunglasses", "babies", "sketches", "paintings")

# Torch hands a tensor of 2**15 numbers or more to several threads, for which the work on it is too short: they would
# mostly wait for each other, for very long where the cores are busy with something else.
_POINTS = 2**15 - 1


def render(domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """The images of the heads in one of DOMAINS: uint8 (N, 3, size, size), each a function of its own attributes."""
    finer = _supersampling(size)

    def draw(heads: FaceAttributes, canvas: Canvas) -> Planes:
        return [to_byte(_average(plane, finer)) for plane in _draw(domain, heads, canvas)]

    return piecewise(draw, attributes, size, finer)


def parts(domain: str, attributes: FaceAttributes, canvas: Canvas) -> Iterator[Part]:
    """What is drawn in one of DOMAINS, from back to front, made when it is asked for."""
    baby, glasses = domain == "babies", domain == "sunglasses"
    if baby:
        attributes = _as_baby(attributes)
    place = attributes, Pose(attributes), canvas
    hair = Fluff(*place) if baby else Hair(*place)
    yield from shoulders(*place)
    yield from hair.behind()
    yield from neck(*place)
    yield from head(*place)
    yield from hair.shadow()
    yield from mouth(*place)
    yield from nose(*place)
    yield from eyes_and_brows(*place)
    if glasses:
        yield from temples(*place)
    yield from hair.before()
    if glasses:
        yield from lenses(*place)


def piecewise(
    draw: Callable[[FaceAttributes, Canvas], Planes], attributes: FaceAttributes, size: int, finer: int = 1
) -> Tensor:
    """What ``draw`` makes of the heads, a few small images or a strip of a large one at a time: (N, C, size, size).

    finer: points of the canvas along each side of a pixel
    """
    grid = pixel_grid(size * finer)
    rows = min(size, max(1, _POINTS // (size * finer**2)))
    count = max(1, _POINTS // (size * rows * finer**2))
    images = torch.empty(0)
    for first in range(0, len(attributes), count):
        heads = slice(first, first + count)
        for top in range(0, size, rows):
            strip = Canvas(grid.x, grid.y[:, top * finer : (top + rows) * finer], grid.pixel)
            planes = draw(attributes.take(heads), strip)
            if not len(images):
                images = planes[0].new_empty(len(attributes), len(planes), size, size)
            for channel, plane in enumerate(planes):
                images[heads, channel, top : top + rows] = plane
    return images


def to_byte(plane: Tensor) -> Tensor:
    """[0, 1] -> uint8 0 ... 255, rounded."""
    return (plane * 255 + 0.5).to(torch.uint8)


def _draw(domain: str, attributes: FaceAttributes, canvas: Canvas) -> Planes:
    if domain == "sketches":
        return inked(attributes, parts(domain, attributes, canvas), canvas)
    if domain == "paintings":
        displaced, thickness = brush(attributes, canvas)
        return oiled(coloured(attributes, parts(domain, attributes, displaced), displaced), thickness)
    return coloured(attributes, parts(domain, attributes, canvas), canvas)


def _as_baby(grown: FaceAttributes) -> FaceAttributes:
    """A rounder head with larger and lower eyes, a button nose and a small mouth."""
    return replace(
        grown,
        head_width=grown.head_width * 1.12,
        head_height=grown.head_width * 0.4 + grown.head_height * 0.6,
        head_y=grown.head_y + 0.04,
        jaw=grown.jaw * 0.4 - 0.06,
        eye_height=grown.eye_height + 0.16,
        eye_size=grown.eye_size * 1.2,
        nose=grown.nose * 0.75,
        mouth_width=grown.mouth_width * 0.68,
        hair=grown.hair * 0.8 + grown.skin * 0.2,
    )


def _supersampling(size: int) -> int:
    """Points along each side of a pixel: small images need more, for strokes thinner than a pixel."""
    return max(2, -(-64 // size)) if size < 192 else 1


def _average(image: Tensor, block: int) -> Tensor:
    """The means of block x block pixels, summed in one order: (..., H, W) -> (..., H / block, W / block)."""
    total = torch.zeros(())
    for row in range(block):
        for column in range(block):
            total = total + image[..., row::block, column::block]
    return total / block**2
