"""From a picture file to uint8 pixels of one size, or to one line that says why not."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from tenshot.errors import InputError

__all__ = ["list_pictures", "read_picture", "resized", "short"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
MODES = ("1", "L", "P", "RGB", "LA", "PA", "RGBA")  # what turns into RGB without loss; alpha only if fully opaque
SIXTEEN_BIT = re.compile(r"(L|LA|RGB|RGBA);16")  # Pillow's raw modes; it would drop the low byte without a word
LEAST_SIDE = 16  # pixels; a smaller file is an icon or an accident, unless such pictures are asked for
MOST_ENLARGED = 8  # times; beyond it there is hardly anything left to learn from


def list_pictures(root: str | Sequence[str], option: str) -> list[Path]:
    """The picture files in a folder and all folders below it, sorted; or those of a list, in its order.

    In a folder, hidden files and files without one of ``SUFFIXES`` are passed over.

    Args:
        option: The command-line option that gave ``root``, named in the errors.

    Raises:
        InputError: no such folder, or nothing in it.
    """
    if not isinstance(root, str | os.PathLike):
        if not root:
            raise InputError(f"{option} is an empty list: give a folder or at least one picture file")
        return [Path(file) for file in root]
    if not os.path.isdir(root):
        found = "is a file, not a folder" if os.path.exists(root) else "does not exist"
        raise InputError(f"{root} {found}: set {option} to a folder of pictures")
    files = [
        Path(folder, name)
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    if not files:
        raise InputError(f"{root} holds no pictures ({', '.join(SUFFIXES)}): set {option} to a folder that does")
    return sorted(files)


def read_picture(path: Path, size: int) -> Tensor:
    """One picture as RGB, upright by its EXIF orientation, resized and centre-cropped: uint8 (3, size, size).

    Raises:
        InputError: not a picture, damaged, animated, not 8 bits a channel, in another colour space, partly
            transparent, or too small.
    """
    try:
        with Image.open(path) as image:
            _refuse_unsuitable(image, path)
            upright = ImageOps.exif_transpose(image)
            rgb = _opaque_rgb(upright, path)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path} is not a picture in a known format: replace it or take it out") from None
    except Exception as error:  # the decoders fail in many ways on damaged files, not all of them OSError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}): replace it or take it out") from None

    width, height = rgb.size
    least = max(min(LEAST_SIDE, size), -(-size // MOST_ENLARGED))
    if min(width, height) < least:
        raise InputError(
            f"{path} is only {width} x {height} pixels: "
            f"for {size} x {size} give a picture of at least {least} x {least}, or lower --data.image_size"
        )
    pixels = np.array(resized(rgb, size))  # (size, size, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def resized(image: Image.Image, size: int) -> Image.Image:
    """The resize convention of ADM: halve by box averaging while that leaves at least ``size``, then bicubic.

    The short side becomes ``size`` and the centre is cropped, so that public checkpoints see what they were trained on.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def short(root: str | Sequence[str]) -> str:
    """How a log line names ``root``."""
    return str(root) if isinstance(root, str | os.PathLike) else "a list of files"


def _refuse_unsuitable(image: ImageFile.ImageFile, path: Path) -> None:
    """Raise InputError for what must not be turned into RGB silently. ``image`` is opened, not yet decoded."""
    # A camera's multi-picture JPEG carries previews behind the photograph; every other second frame means animation.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise InputError(f"{path} is animated or has several pages: save one frame as a picture of its own")
    raw_modes = [tile.args if isinstance(tile.args, str) else str(tile.args[0]) for tile in image.tile if tile.args]
    if image.mode[0] in "IF" or any(SIXTEEN_BIT.match(mode) for mode in raw_modes):
        raise InputError(f"{path} has more than 8 bits a channel (mode {image.mode}): save it as 8-bit RGB")
    if image.mode not in MODES:
        raise InputError(f"{path} is in colour mode {image.mode}: convert it to RGB")


def _opaque_rgb(image: Image.Image, path: Path) -> Image.Image:
    """RGB without the alpha channel, which must be opaque everywhere."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        least_alpha = image.getchannel("A").getextrema()[0]
        if least_alpha != 255:
            raise InputError(f"{path} is partly transparent: put it on a background and save it as RGB")
    return image.convert("RGB")
