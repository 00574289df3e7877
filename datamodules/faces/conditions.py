"""What a picture can be made from: the map of its parts, its contours, and the relief of the head."""

import torch
from torch import Tensor

from tenshot.datamodules.faces.attributes import FaceAttributes
from tenshot.datamodules.faces.domains import blockwise, parts
from tenshot.datamodules.faces.parts import REGIONS
from tenshot.datamodules.faces.shapes import pixel_grid
from tenshot.datamodules.faces.styles import PEN

__all__ = ["CONDITIONS", "contour_sketch", "depth_map", "normal_map", "render_condition", "semantic_mask"]


def semantic_mask(domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """Which of REGIONS stands at the centre of each pixel: int64 (N, size, size)."""
    canvas = pixel_grid(size)

    def draw(block: FaceAttributes) -> Tensor:
        mask = torch.zeros(len(block), size, size, dtype=torch.int64)
        for part in parts(domain, block, canvas):
            if part.region is not None:
                mask[part.distance <= 0] = REGIONS.index(part.region)
        return mask

    return blockwise(draw, attributes, size)


def contour_sketch(domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """The visible edges of the parts: uint8 (N, 1, size, size), 255 on a line and 0 elsewhere, nothing between.

    Lines are as wide as a pen's in the domain "sketches", but never so thin that they break.
    """
    canvas = pixel_grid(size)
    half = max(PEN, 0.5 * canvas.pixel)

    def draw(block: FaceAttributes) -> Tensor:
        lines = torch.zeros(len(block), size, size, dtype=torch.bool)
        for part in parts(domain, block, canvas):
            if part.region is not None:
                lines &= part.distance > 0
                if part.outlined:
                    lines |= part.distance.abs() <= half
                elif part.ink == 1:
                    lines |= part.distance <= half - PEN
        return lines[:, None].to(torch.uint8) * 255

    return blockwise(draw, attributes, size)


def depth_map(domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """How far each point stands before the wall: uint8 (N, 1, size, size), from 0 to half a picture size at 255."""
    canvas = pixel_grid(size)

    def draw(block: FaceAttributes) -> Tensor:
        height = torch.zeros(len(block), size, size)
        for part in parts(domain, block, canvas):
            if part.solid is not None:
                height = torch.where(part.distance <= 0, part.solid.height(canvas), height)
        return (height[:, None].clamp(0, 1) * 255).round().to(torch.uint8)

    return blockwise(draw, attributes, size)


def normal_map(domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """Unit vectors away from the surfaces: uint8 (N, 3, size, size).

    The channels are right, up and towards the viewer, -1 as 0 and 1 as 255; the wall looks at the viewer.
    """
    canvas = pixel_grid(size)

    def draw(block: FaceAttributes) -> Tensor:
        shape = len(block), size, size
        right, down, near = torch.zeros(shape), torch.zeros(shape), torch.ones(shape)
        for part in parts(domain, block, canvas):
            if part.solid is not None:
                inside, normal = part.distance <= 0, part.solid.normal(canvas)
                right, down, near = (
                    torch.where(inside, new, old) for new, old in zip(normal, (right, down, near), strict=True)
                )
        return (torch.stack([right, -down, near], dim=1) * 127.5 + 127.5).round().to(torch.uint8)

    return blockwise(draw, attributes, size)


_DRAWN_BY = {"mask": semantic_mask, "sketch": contour_sketch, "depth": depth_map, "normal": normal_map}
CONDITIONS = tuple(_DRAWN_BY)


def render_condition(condition: str, domain: str, attributes: FaceAttributes, size: int) -> Tensor:
    """One of CONDITIONS for the heads in one of DOMAINS, see the function of that name."""
    return _DRAWN_BY[condition](domain, attributes, size)
