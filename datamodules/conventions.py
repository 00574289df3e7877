"""How published code brings the images of a data set to one size, by name."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tenshot.datamodules.reading import Fit, fitted, resized

__all__ = ["CONVENTIONS", "FITTING", "cdc", "nearest", "piti"]

PITI_SIDE = 256  # its smaller images are made of these


def cdc(image: Image.Image, size: int) -> Image.Image:
    """``prepare_data.py`` of rosinality's StyleGAN2, CDC and MixDL: short side to ``size`` by Lanczos, centre crop.

    They then store JPEGs of quality 100; here nothing is lost.
    """
    width, height = image.size
    short = min(width, height)
    width, height = size * width // short, size * height // short
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = round((width - size) / 2), round((height - size) / 2)  # half a pixel goes to the even side
    return image.crop((left, top, left + size, top + size))


def piti(image: Image.Image, size: int) -> Image.Image:
    """PITI's images: squashed to a square of 256 by bicubic interpolation, no crop; smaller ones are made of that."""
    side = max(size, PITI_SIDE)
    square = image.resize((side, side), Image.Resampling.BICUBIC)
    return square if side == size else square.resize((size, size), Image.Resampling.BICUBIC)


def _piti_condition(image: Image.Image, size: int) -> Image.Image:
    """PITI's masks, sketches and normals: squashed without mixing colours."""
    return image.resize((size, size), Image.Resampling.NEAREST)


# "adm" is the convention of guided-diffusion and improved-diffusion
CONVENTIONS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "adm": resized, "cdc": cdc, "piti": piti, "piti_condition": _piti_condition,
}  # fmt: skip


def _pixels_of_cdc(image: Image.Image, size: int) -> Tensor:
    return torch.from_numpy(np.array(cdc(image, size))).permute(2, 0, 1)


def _pixels_of_piti(image: Image.Image, size: int) -> Tensor:
    prepared = image if image.size == (size, size) else piti(image, size)
    return torch.from_numpy(np.array(prepared)).permute(2, 0, 1)


FITTING: dict[str, Fit] = {"adm": fitted, "cdc": _pixels_of_cdc, "piti": _pixels_of_piti}
"""What reading during training offers."""


def nearest(image: Image.Image, size: int, convention: str) -> Image.Image:
    """A map of classes or lines brought to where one of FITTING brings its image, by the nearest pixel.

    No values are mixed: one in between would mean another class.
    """
    if convention == "piti":
        return _piti_condition(image, size)
    width, height = image.size
    short = min(width, height)
    if convention == "cdc":
        width, height = size * width // short, size * height // short
        left, top = round((width - size) / 2), round((height - size) / 2)
    else:
        width, height = round(width * (size / short)), round(height * (size / short))
        left, top = (width - size) // 2, (height - size) // 2
    scaled = image.resize((width, height), Image.Resampling.NEAREST)
    return scaled.crop((left, top, left + size, top + size))
