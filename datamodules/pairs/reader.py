"""From the files of a condition to the tensor that a network takes: mask, sketch, depth, normals or geometry."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tenshot.datamodules.conventions import FITTING, nearest
from tenshot.datamodules.pairs.masks import Masks
from tenshot.datamodules.pairs.palette import colours_of
from tenshot.datamodules.pairs.sketches import distance_map, edges_of, lines_in
from tenshot.datamodules.reading import MOST_PIXELS, ImageError, opened

__all__ = ["CHANNELS", "KINDS", "PARTS", "ConditionReader", "Kind", "require_same_shape", "turned_normals"]

Kind = Literal["mask", "sketch", "depth", "normals", "geometry"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PARTS: dict[str, tuple[str, ...]] = {kind: (kind,) for kind in KINDS} | {"geometry": ("normals", "depth")}
"""What the condition is put together of, a file each, in the order of its channels."""
CHANNELS = {"mask": 3, "sketch": 1, "depth": 3, "normals": 3, "geometry": 6}


@dataclass(frozen=True)
class ConditionReader:
    """Reads conditions of one kind.

    Args:
        kind: Which.
        size: Height and width of the condition, S.
        convention: How the images are resized, one of ``FITTING``; conditions are by the nearest pixel.
        masks: How masks say which class a pixel has.
        black_on_white: Whether sketches are dark on a bright ground.
        edge_sigma: Of the blur before edges are looked for in a photograph, in 256ths of the side.
        max_pixels: A file with more is refused.
    """

    kind: Kind
    size: int
    convention: str = "piti"
    masks: Masks = field(default_factory=Masks)
    black_on_white: bool = False
    edge_sigma: float = 2.0
    max_pixels: int = MOST_PIXELS

    def decoded(self, data: Sequence[bytes], titles: Sequence[str]) -> tuple[Tensor, list[tuple[int, int]]]:
        """The condition of files, one for each of ``PARTS``, and their widths and heights.

        Returns:
            uint8 (C, S, S): for a mask the colours of the palette, for a sketch the distance to its lines, for depth
            and normals what the files show; C of ``CHANNELS``.

        Raises:
            ImageError: A file cannot be read, or is not what it should be; names it.
        """
        files = zip(data, titles, strict=True)
        images = [opened(*file, self.max_pixels, as_stored=self.kind == "mask") for file in files]
        sizes = [image.size for image in images]
        if self.kind == "mask":
            mask = nearest(self.masks.read(images[0], data[0], titles[0]), self.size, self.convention)
            pixels = torch.from_numpy(np.array(mask))
            return colours_of(pixels) if mask.mode == "L" else pixels.permute(2, 0, 1), sizes
        if self.kind == "sketch":
            lines = nearest(lines_in(images[0], titles[0], self.black_on_white), self.size, self.convention)
            pixels = torch.from_numpy(np.array(lines))
            if not pixels.any():
                raise ImageError(
                    f"{titles[0]} has no line left at {self.size} x {self.size} pixels: draw thicker ones", "sketch"
                )
            return distance_map(pixels)[None], sizes
        return torch.cat([self._colours(image) for image in images]), sizes

    def of_photo(self, photo: Image.Image, title: str) -> Tensor:
        """A sketch made of a photograph's edges: uint8 (1, S, S).

        Raises:
            ImageError: It has none.
        """
        pixels = FITTING[self.convention](photo, self.size)
        return distance_map(edges_of(pixels, self.edge_sigma, title))[None]

    def _colours(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(nearest(image.convert("RGB"), self.size, self.convention))).permute(2, 0, 1)


def require_same_shape(
    image: tuple[int, int], condition: tuple[int, int], titles: tuple[str, str], squash: bool
) -> None:
    """Refuse a condition that cannot belong to its image, because it is wider or higher.

    Args:
        image: Width and height.
        condition: Width and height.
        titles: How errors name the two.
        squash: Whether images are squashed to a square, so that one of the two may be already.

    Raises:
        ImageError: They have not the same shape.
    """
    (width, height), (other_width, other_height) = image, condition
    rounding = max(width, height, other_width, other_height)  # of one pixel
    if abs(width * other_height - other_width * height) <= rounding:
        return
    if squash and (width == height or other_width == other_height):
        return
    raise ImageError(
        f"{titles[1]} is {other_width} x {other_height}, another shape than {titles[0]} with {width} x {height}: give "
        "both the same, they must show the same part",
        "shape",
    )


def turned_normals(condition: Tensor, flip: Tensor) -> Tensor:
    """Mirrored normals point to the other side; pixels without one, (0, 0, 0), stay.

    condition: uint8 (N, C, S, S), normals first, from -1 at 0 to 1 at 255, the first channel to the right
    flip: bool (N,), which are mirrored
    """
    normals = condition[:, :3]
    turn = flip.view(-1, 1, 1, 1) & (normals > 0).any(1, keepdim=True)
    return torch.cat([torch.where(turn, 255 - normals[:, :1], normals[:, :1]), condition[:, 1:]], dim=1)
