"""Sketches: lines of a drawing or the edges of a photograph, as how far each pixel is from the nearest line."""

import importlib.util

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tenshot.datamodules.reading import ImageError
from tenshot.errors import InputError

__all__ = ["canny_edges", "distance_map", "edges_of", "has_edge_detector", "lines_in", "require_edge_detector"]

SIDE = 256
"""Distances are counted in parts of the image, of which a side has so many: in pixels of PITI's images."""
FARTHEST = 255
"""Everything beyond counts as this far, and all of an image without lines: the null condition."""
BRIGHT = 128
"""Grey from which a pixel is on a white line."""


def distance_map(lines: Tensor) -> Tensor:
    """City-block distance of each pixel to the nearest line (PITI's input for sketches).

    lines: bool (…, S, S)  ->  uint8 (…, S, S), in 256ths of the side, at most 255: 0 on a line, 255 without any
    """
    size = lines.shape[-1]
    distance = torch.where(lines, 0, 2 * size + SIDE * size).int()
    for dim in (-1, -2):
        distance = _spread(distance.transpose(dim, -1)).transpose(dim, -1)
    return (distance * (SIDE / size)).round().clamp(max=FARTHEST).to(torch.uint8)


def _spread(distance: Tensor) -> Tensor:
    """The least of all distances along the last axis, each one larger with every pixel in between."""
    place = torch.arange(distance.shape[-1], dtype=distance.dtype)
    before = (distance - place).cummin(-1).values + place
    after = (distance + place).flip(-1).cummin(-1).values.flip(-1) - place
    return torch.minimum(before, after)


def lines_in(image: Image.Image, title: str, black_on_white: bool) -> Image.Image:
    """The lines of a drawing: white, mode "1", whatever greys its pen, its scanner or a JPEG have left.

    Args:
        title: How errors name it.
        black_on_white: Whether its lines are dark on a bright ground; else they are bright on a dark one.

    Raises:
        ImageError: It is drawn the other way round, or empty.
    """
    bright = np.asarray(image.convert("L")) >= BRIGHT
    lines = ~bright if black_on_white else bright
    if lines.mean() > 0.5:
        seems = "drawn in white on black: leave" if black_on_white else "drawn in black on white: set"
        option = "--data.black_on_white " + ("out" if black_on_white else "true")
        raise ImageError(
            f"{title} would be lines in {lines.mean():.0%} of its pixels, it seems {seems} {option}", "sketch"
        )
    if not lines.any():
        raise ImageError(
            f"{title} is a sketch without lines, which means no condition: draw some or take it out", "sketch"
        )
    return Image.fromarray(lines)


def edges_of(pixels: Tensor, sigma: float, title: str) -> Tensor:
    """The edges of a photograph by Canny's detector: uint8 (3, S, S)  ->  bool (S, S).

    Args:
        sigma: Of the Gaussian blur before it, in 256ths of the side: more leaves fewer edges.
        title: How errors name it.

    Raises:
        ImageError: It has none.
    """
    edges = canny_edges(pixels, sigma)
    if not edges.any():
        raise ImageError(f"{title} has no edges to make a sketch of: lower --data.edge_sigma or take it out", "sketch")
    return edges


def canny_edges(pixels: Tensor, sigma: float) -> Tensor:
    """The same of any image, which may have none."""
    from skimage.feature import canny  # an optional dependency

    grey = np.tensordot(np.array([0.299, 0.587, 0.114]), pixels.numpy() / 255, 1)  # (S, S), luma of BT.601
    return torch.from_numpy(canny(grey, sigma * pixels.shape[-1] / SIDE))


def has_edge_detector() -> bool:
    """Whether scikit-image is installed."""
    return importlib.util.find_spec("skimage") is not None


def require_edge_detector() -> None:
    """Make sure that there is one.

    Raises:
        InputError: scikit-image is not installed.
    """
    if not has_edge_detector():
        raise InputError(
            "sketches are made from photographs with scikit-image: pip install 'tenshot[sketches]', or give sketches "
            "with --data.conditions"
        )
