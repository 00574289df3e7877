"""From an image file to uint8 pixels of one size, or to one line that says why not."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from tenshot.datamodules.files import (
    LABEL_FILES,
    SUFFIXES,
    is_hidden_path,
    is_image,
    left_out_ending,
    left_out_words,
    walk,
)
from tenshot.errors import InputError

__all__ = [
    "MOST_PIXELS", "Fit", "ImageError", "decoded", "file_bytes", "fitted", "list_images", "opened", "read_image",
    "require_size", "resized", "short",
]  # fmt: skip

MODES = ("1", "L", "P", "RGB", "LA", "PA", "RGBA", "CMYK", "YCbCr")  # what turns into RGB; alpha only if fully opaque
SIXTEEN_BIT = re.compile(r"(L|LA|RGB|RGBA);16")  # Pillow's raw modes; it would drop the low byte without a word
LEAST_SIDE = 16  # pixels; a smaller file is an icon or an accident, unless such images are asked for
MOST_PIXELS = 150_000_000
"""Of an image by default: beyond every camera of our days but the largest; decoded it takes 450 MB."""
MOST_ENLARGED = 8  # times; beyond it there is hardly anything left to learn from

Fit = Callable[[Image.Image, int], Tensor]
"""Brings an RGB image to a size: -> uint8 (3, size, size)."""

Image.MAX_IMAGE_PIXELS = None  # ``opened`` has a limit of its own, which is an option


class ImageError(InputError):
    """An image that cannot be used.

    ``kind``: unreadable, animated, colours, transparent, small or large; of a condition also mask, sketch or shape.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return ImageError, (str(self), self.kind)


def list_images(root: str | Sequence[str], option: str) -> list[Path]:
    """The image files in a folder and all folders below it, sorted; or those of a list, in its order.

    In a folder, hidden files and those that ``walk`` passes over are no images, in a list hidden files. One line
    says which files that seem to hold images are left out.

    Args:
        option: The command-line option that gave ``root``, named in the errors.

    Raises:
        InputError: no such folder, or nothing in it.
    """
    if not isinstance(root, str | os.PathLike):
        return _listed(root, option)
    if not os.path.isdir(root):
        found = "is a file, not a folder" if os.path.exists(root) else "does not exist"
        raise InputError(f"{root} {found}: set {option} to a folder of images")
    files: list[Path] = []
    left_out: Counter[str] = Counter()
    labels: list[str] = []
    for inside, _, names in walk(os.fspath(root)):
        files += [Path(root, inside, name) for name in names if is_image(name)]
        left_out.update(ending for name in names if (ending := left_out_ending(name)))
        labels += [os.path.join(root, inside, name) for name in names if name in LABEL_FILES]
    if not files:
        only = f"; there is only {left_out_words(left_out)}" if left_out else ""
        raise InputError(f"{root} holds no images ({', '.join(SUFFIXES)}): set {option} to a folder that does{only}")
    if left_out:
        rank_zero_info(f"{root}: left out {left_out_words(left_out)}")
    if labels:
        rank_zero_info(f"{labels[0]}: its labels are not used")
    return sorted(files)


def _listed(files: Sequence[str], option: str) -> list[Path]:
    """The files of a list but for hidden ones."""
    if not files:
        raise InputError(f"{option} is an empty list: give a folder or at least one image file")
    paths = [Path(file) for file in files]
    hidden = [path for path in paths if is_hidden_path(path)]
    if len(hidden) == len(paths):
        raise InputError(f"{option} lists hidden files alone ({hidden[0]}, …): give at least one image file")
    if hidden:
        rank_zero_info(f"{option}: left out {len(hidden)} hidden files ({hidden[0]}, …)")
    return [path for path in paths if path not in hidden]


def read_image(path: Path, size: int, max_pixels: int = MOST_PIXELS, fit: Fit | None = None) -> Tensor:
    """The image in a file, as ``decoded`` gives it, contiguous: uint8 (3, size, size)."""
    return decoded(file_bytes(path), str(path), size, max_pixels, fit).contiguous()


def file_bytes(path: Path) -> bytes:
    """What is in an image file.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path} cannot be read ({error.strerror or error}): replace it or take it out", "unreadable"
        ) from None


def decoded(data: bytes, title: str, size: int, max_pixels: int = MOST_PIXELS, fit: Fit | None = None) -> Tensor:
    """One image as RGB, upright by its EXIF orientation, resized and centre-cropped: uint8 (3, size, size).

    Args:
        data: The image file.
        title: How errors name it.
        size: Height and width it is brought to.
        max_pixels: One with more is refused before it is decoded.
        fit: How an RGB image is brought to that size; ``fitted`` by default.

    Raises:
        ImageError: not an image, damaged, animated, not 8 bits a channel, in a colour space that Pillow does not
            convert, partly transparent, too small or too large.
    """
    image = opened(data, title, max_pixels)
    require_size(image, title, size, "--data.image_size")
    return (fit or fitted)(image, size)


def opened(data: bytes, title: str, max_pixels: int = MOST_PIXELS, as_stored: bool = False) -> Image.Image:
    """An image file decoded: RGB, upright by its EXIF orientation.

    Args:
        data: The image file.
        title: How errors name it.
        max_pixels: One with more is refused before it is decoded.
        as_stored: Leave images of one bit, of greys and of a palette what they are.

    Raises:
        ImageError: as ``decoded``, except for the size.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"{title} has {image.width} x {image.height} pixels, more than the {max_pixels} that are read: "
                    "scale it down, or raise the option max_pixels",
                    "large",
                )
            _refuse_unsuitable(image, title, "8-bit PNG" if as_stored else "8-bit RGB")
            ImageOps.exif_transpose(image, in_place=True)  # decodes too; otherwise it would copy every image
            if as_stored and image.mode in ("1", "L", "P"):
                image.load()
                return image
            return _opaque_rgb(image, title)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise ImageError(
            f"{title} is not an image in a known format: replace it or take it out", "unreadable"
        ) from None
    except Exception as error:  # the decoders fail in many ways on damaged files, not all of them OSError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{title} cannot be read ({reason}): replace it or take it out", "unreadable") from None


def require_size(image: Image.Image, title: str, size: int, option: str) -> None:
    """Refuse an image that would have to be enlarged beyond recognition.

    Args:
        option: The command-line option that gave ``size``, named in the error.

    Raises:
        ImageError: it is too small.
    """
    width, height = image.size
    least = max(min(LEAST_SIDE, size), -(-size // MOST_ENLARGED))
    if min(width, height) < least:
        raise ImageError(
            f"{title} is only {width} x {height} pixels: "
            f"for {size} x {size} give an image of at least {least} x {least}, or lower {option}",
            "small",
        )


def fitted(image: Image.Image, size: int) -> Tensor:
    """The fast twin of ``resized``: RGB -> uint8 (3, size, size), hardly ever more than one level from it.

    The halvings are the same to the bit where the sides are even; the last step is PyTorch's kernel for 8 bits, which
    rounds its weights otherwise than Pillow and takes a third of the time.
    """
    while min(image.size) >= 2 * size:
        image = _halved(image)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # (1, 3, H, W), channels last
    if (width, height) != image.size:
        pixels = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    left, top = (width - size) // 2, (height - size) // 2
    return pixels[0, :, top : top + size, left : left + size]


def _halved(image: Image.Image) -> Image.Image:
    """Half of each side, rounded down, by box averages: first along the rows, then along the columns."""
    width, height = image.size
    rows = image.reduce((2, 1)) if width % 2 == 0 else image.resize((width // 2, height), Image.Resampling.BOX)
    size = (width // 2, height // 2)
    return rows.reduce((1, 2)) if height % 2 == 0 else rows.resize(size, Image.Resampling.BOX)


def resized(image: Image.Image, size: int) -> Image.Image:
    """The resize convention of ADM: halve by box averaging while that leaves at least ``size``, then bicubic.

    The short side becomes ``size`` and the centre is cropped, so that public checkpoints see what they were trained on.
    Pillow's own operations, to the bit those of the official code; ``fitted`` is faster.
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


def _refuse_unsuitable(image: ImageFile.ImageFile, title: str, wanted: str) -> None:
    """Raise InputError for what must not be turned into RGB silently. ``image`` is opened, not yet decoded."""
    # A camera's multi-image JPEG carries previews behind the photograph; every other second frame means animation.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ImageError(f"{title} is animated or has several pages: save one frame as an image of its own", "animated")
    raw_modes = [tile.args if isinstance(tile.args, str) else str(tile.args[0]) for tile in image.tile if tile.args]
    if image.mode[0] in "IF" or any(SIXTEEN_BIT.match(mode) for mode in raw_modes):
        raise ImageError(f"{title} has more than 8 bits a channel (mode {image.mode}): save it as {wanted}", "colours")
    if image.mode not in MODES:
        raise ImageError(f"{title} is in colour mode {image.mode}: convert it to RGB", "colours")


def _opaque_rgb(image: Image.Image, title: str) -> Image.Image:
    """RGB without the alpha channel, which must be opaque everywhere."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        least_alpha = image.getchannel("A").getextrema()[0]
        if least_alpha != 255:
            raise ImageError(f"{title} is partly transparent: put it on a background and save it as RGB", "transparent")
    return image if image.mode == "RGB" else image.convert("RGB")
