"""What an image can be made from: the map of its parts, its contours, and the relief of the head."""

import torch
from torch import Tensor

from tenshot.datamodules.faces.attributes import FaceAttributes
from tenshot.datamodules.faces.domains import parts, piecewise, to_byte
from tenshot.datamodules.faces.parts import REGIONS
from tenshot.datamodules.faces.shapes import Canvas
from tenshot.datamodules.faces.styles import PEN, Planes
from tenshot.datamodules.pairs import PARTS, colours_of, distance_map

__all__ = [
    "CONDITIONS",
    "condition_image",
    "contour_sketch",
    "depth_map",
    "normal_map",
    "render_condition",
    "semantic_mask",
]


def semantic_mask(domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """Which of REGIONS stands at the centre of each pixel: int64 (N, size, size)."""

    def draw(heads: FaceAttributes, canvas: Canvas) -> Planes:
        mask = torch.zeros(_shape(heads, canvas), dtype=torch.int64)
        for part in parts(domain, heads, canvas):
            if part.region is not None:
                mask[part.distance <= 0] = REGIONS.index(part.region)
        return [mask]

    return piecewise(draw, attributes, size)[:, 0]


def contour_sketch(domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """The visible edges of the parts: uint8 (N, 1, size, size), 255 on a line and 0 elsewhere, nothing between.

    Lines are as wide as a pen's in the domain "sketches", but never so thin that they break.
    """
    half = max(PEN, 1 / size)  # a pixel is 2 / size wide

    def draw(heads: FaceAttributes, canvas: Canvas) -> Planes:
        lines = torch.zeros(_shape(heads, canvas), dtype=torch.bool)
        for part in parts(domain, heads, canvas):
            if part.region is not None:
                lines &= part.distance > 0
                if part.outlined:
                    lines |= part.distance.abs() <= half
                elif part.ink == 1:
                    lines |= part.distance <= half - PEN
        return [to_byte(lines)]

    return piecewise(draw, attributes, size)


def depth_map(domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """How far each point stands before the wall: uint8 (N, 1, size, size), from 0 to half an image size at 255."""

    def draw(heads: FaceAttributes, canvas: Canvas) -> Planes:
        height = torch.zeros(_shape(heads, canvas))
        for part in parts(domain, heads, canvas):
            if part.solid is not None:
                height = torch.where(part.distance <= 0, part.solid.height(canvas), height)
        return [to_byte(height.clamp(0, 1))]

    return piecewise(draw, attributes, size)


def normal_map(domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """Unit vectors away from the surfaces: uint8 (N, 3, size, size).

    The channels are right, up and towards the viewer, -1 as 0 and 1 as 255; the wall looks at the viewer.
    """

    def draw(heads: FaceAttributes, canvas: Canvas) -> Planes:
        shape = _shape(heads, canvas)
        right, down, near = torch.zeros(shape), torch.zeros(shape), torch.ones(shape)
        for part in parts(domain, heads, canvas):
            if part.solid is not None:
                inside, normal = part.distance <= 0, part.solid.normal(canvas)
                right, down, near = (
                    torch.where(inside, new, old) for new, old in zip(normal, (right, down, near), strict=True)
                )
        return [to_byte((axis + 1) / 2) for axis in (right, -down, near)]

    return piecewise(draw, attributes, size)


def _shape(heads: FaceAttributes, canvas: Canvas) -> tuple[int, int, int]:
    return len(heads), canvas.y.shape[1], canvas.x.shape[2]


_DRAWN_BY = {"mask": semantic_mask, "sketch": contour_sketch, "depth": depth_map, "normal": normal_map}
CONDITIONS = tuple(_DRAWN_BY)


def render_condition(condition: str, domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """One of CONDITIONS for the heads in one of DOMAINS, see the function of that name."""
    return _DRAWN_BY[condition](domain, attributes, size)


def condition_image(kind: str, domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """What a network makes the heads from, as ``Paired`` gives it of files: uint8 (N, C, size, size).

    Args:
        kind: mask, in the colours of the palette, the region k of REGIONS in that of class k; sketch, the distance to
            the contours; depth; normals; or geometry.
    """
    if kind == "mask":
        return colours_of(semantic_mask(domain, attributes, size) + 1)
    if kind == "sketch":
        return distance_map(contour_sketch(domain, attributes, size) > 0)
    maps = {"normals": normal_map, "depth": depth_map}
    return torch.cat([maps[part](domain, attributes, size).expand(-1, 3, -1, -1) for part in PARTS[kind]], dim=1)
