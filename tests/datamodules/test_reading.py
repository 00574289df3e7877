import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import data

from tenshot.datamodules.reading import list_images, read_image, resized
from tenshot.errors import InputError


def photo(height: int = 40, width: int = 40) -> Image.Image:
    return Image.fromarray(data.astronaut()[:height, :width])


def test_a_folder_is_listed_sorted_with_the_folders_below_it(photos: Path):
    names = [file.relative_to(photos).as_posix() for file in list_images(str(photos), "--data.root")]
    assert names == ["astronaut.jpg", "camera.bmp", "cat.webp", "coffee.PNG", "more/rocket.jpeg"]


def test_a_list_keeps_its_order(photos: Path):
    files = [str(photos / "coffee.PNG"), str(photos / "astronaut.jpg")]
    assert [str(file) for file in list_images(files, "--data.root")] == files


def test_a_linked_folder_is_followed(photos: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    assert len(list_images(str(tmp_path), "--data.root")) == 5


@pytest.mark.parametrize("name", ["astronaut.jpg", "cat.webp", "coffee.PNG", "more/rocket.jpeg", "camera.bmp"])
def test_photographs_become_square_pixels(photos: Path, name: str):
    pixels = read_image(photos / name, 64)
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == torch.uint8
    assert pixels.float().std() > 20


@pytest.mark.parametrize(
    ("suffix", "lossless"),
    [("png", True), ("bmp", True), ("tif", True), ("ppm", True), ("webp", False), ("jpg", False)],
)
def test_formats(tmp_path: Path, suffix: str, lossless: bool):
    photo().save(tmp_path / f"a.{suffix}")
    pixels = read_image(tmp_path / f"a.{suffix}", 40)
    expected = torch.from_numpy(data.astronaut()[:40, :40].copy()).permute(2, 0, 1)
    error = (pixels.float() - expected.float()).abs().max()
    assert error == 0 if lossless else error < 60


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
def test_what_is_opaque_becomes_rgb(tmp_path: Path, mode: str):
    original = photo().convert(mode)
    original.save(tmp_path / "a.png")
    expected = np.asarray(original.convert("RGB"))
    assert np.array_equal(read_image(tmp_path / "a.png", 40).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("YCbCr", "a.tif")])
def test_colour_spaces_that_pillow_converts(tmp_path: Path, mode: str, name: str):
    photo().convert(mode).save(tmp_path / name)
    pixels = read_image(tmp_path / name, 40).permute(1, 2, 0).numpy()
    assert np.abs(pixels.astype(int) - np.asarray(photo()).astype(int)).mean() < 8


def test_a_gif_of_one_frame_is_an_image(tmp_path: Path):
    photo().save(tmp_path / "a.gif")
    assert read_image(tmp_path / "a.gif", 40).float().std() > 20


def test_the_preview_in_a_camera_jpeg_is_no_animation(tmp_path: Path):
    photo().save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[photo(20, 20)])
    assert Image.open(tmp_path / "a.jpg").n_frames == 2
    assert read_image(tmp_path / "a.jpg", 40).float().std() > 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int):
    """EXIF 2.3, tag 274: where row 0 and column 0 of the stored pixels belong."""
    upright = np.zeros((20, 20, 3), np.uint8)
    upright[:10, :10], upright[:10, 10:], upright[10:, :10] = 250, 170, 90  # each corner its own grey
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png", 20).permute(1, 2, 0).numpy(), upright)


def halved_then_bicubic(pixels: np.ndarray, size: int) -> np.ndarray:
    """The convention of ADM: 2 x 2 means, antialiased bicubic (a = -1/2), centre crop; 8 bits after each pass.

    (H, W, 3) -> float32 (size, size, 3). For sides that halve evenly.
    """
    x = pixels.astype(np.float32)
    while min(x.shape[:2]) >= 2 * size:
        assert x.shape[0] % 2 == x.shape[1] % 2 == 0
        x = np.floor((x[:, ::2] + x[:, 1::2]) / 2 + 0.5)
        x = np.floor((x[::2] + x[1::2]) / 2 + 0.5)
    height, width = (round(side * size / min(x.shape[:2])) for side in x.shape[:2])
    y = torch.from_numpy(x).permute(2, 0, 1)[None]
    for target in ((y.shape[2], width), (height, width)):
        y = F.interpolate(y, target, mode="bicubic", antialias=True).round().clamp(0, 255)
    top, left = (height - size) // 2, (width - size) // 2
    return y[0, :, top : top + size, left : left + size].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (32, 32, 32),
        (64, 64, 32),
        (256, 256, 32),
        (128, 192, 32),
        (100, 60, 32),
        (62, 84, 32),
        (320, 480, 50),
        (24, 37, 32),
    ],
)
def test_resizing_follows_the_convention(height: int, width: int, size: int):
    pixels = data.astronaut()[100 : 100 + height, :width]
    ours = np.asarray(resized(Image.fromarray(pixels), size)).astype(np.float32)
    difference = np.abs(ours - halved_then_bicubic(pixels, size))
    assert ours.shape == (size, size, 3)
    assert difference.max() <= 1
    assert difference.mean() < 0.02


def test_halving_is_part_of_the_convention():
    """Bicubic alone gives other pixels, so the test above tells the two apart."""
    pixels = data.astronaut()[:256, :256]
    bicubic = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)).astype(np.float32)
    assert np.abs(bicubic - halved_then_bicubic(pixels, 32)).mean() > 1


def sixteen_bit_png(channels: int, colour_type: int) -> bytes:
    """A 20 x 20 PNG of 16 bits a channel; Pillow cannot write one in colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + bytes(20 * channels * 2)
    header = struct.pack(">IIBBBBB", 20, 20, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(20 * row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated(path: Path) -> None:
    photo(200, 200).save(path)
    half(path)


def see_through(path: Path) -> None:
    image = photo().convert("RGBA")
    image.putpixel((3, 3), (0, 0, 0, 254))
    image.save(path)


def see_through_palette(path: Path) -> None:
    photo().convert("P").save(path, transparency=photo().convert("P").getpixel((0, 0)))


def frames(path: Path) -> None:
    photo().save(path, save_all=True, append_images=[photo().rotate(90)])


BAD: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    "text": ("a.png", lambda path: path.write_text("not an image"), "not an image", "replace it"),
    "nothing": ("a.jpg", lambda path: path.write_bytes(b""), "not an image", "replace it"),
    "truncated jpeg": ("a.jpg", truncated, "cannot be read", "replace it"),
    "truncated png": ("a.png", truncated, "cannot be read", "replace it"),
    "truncated webp": ("a.webp", truncated, "cannot be read", "replace it"),
    "missing": ("a.png", lambda path: None, "No such file", "replace it"),
    "a folder": ("a.png", lambda path: path.mkdir(), "Is a directory", "take it out"),
    "1x1": ("a.png", lambda path: photo(1, 1).save(path), "1 x 1", "at least 16 x 16"),
    "narrow": ("a.png", lambda path: photo(15, 40).save(path), "40 x 15", "at least 16 x 16"),
    "16-bit grey": ("a.png", lambda path: path.write_bytes(sixteen_bit_png(1, 0)), "8 bits", "8-bit RGB"),
    "16-bit rgb": ("a.png", lambda path: path.write_bytes(sixteen_bit_png(3, 2)), "8 bits", "8-bit RGB"),
    "16-bit grey alpha": ("a.png", lambda path: path.write_bytes(sixteen_bit_png(2, 4)), "8 bits", "8-bit RGB"),
    "16-bit rgba": ("a.png", lambda path: path.write_bytes(sixteen_bit_png(4, 6)), "8 bits", "8-bit RGB"),
    "16-bit tiff": ("a.tif", lambda path: Image.new("I;16", (20, 20)).save(path), "8 bits", "8-bit RGB"),
    "32-bit tiff": ("a.tif", lambda path: Image.new("I", (20, 20)).save(path), "8 bits", "8-bit RGB"),
    "float tiff": ("a.tif", lambda path: Image.new("F", (20, 20)).save(path), "8 bits", "8-bit RGB"),
    "lab": ("a.tif", lambda path: Image.new("LAB", (20, 20)).save(path), "LAB", "convert it to RGB"),
    "transparent": ("a.png", see_through, "transparent", "save it as RGB"),
    "transparent palette": ("a.png", see_through_palette, "transparent", "save it as RGB"),
    "animated gif": ("a.gif", frames, "animated", "save one frame"),
    "animated webp": ("a.webp", frames, "animated", "save one frame"),
    "animated png": ("a.png", frames, "animated", "save one frame"),
    "pages": ("a.tif", frames, "several pages", "save one frame"),
}


@pytest.mark.filterwarnings("error")  # nothing beside the one line
@pytest.mark.parametrize("case", BAD)
def test_unusable_files_are_refused_in_one_line(tmp_path: Path, case: str):
    name, write, found, remedy = BAD[case]
    write(tmp_path / name)
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / name, 32)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / name) in message
    assert found in message
    assert remedy in message


@pytest.mark.parametrize(
    ("side", "size", "usable"),
    [
        (16, 32, True),
        (15, 32, False),
        (32, 256, True),
        (31, 256, False),
        (8, 8, True),
        (7, 8, False),
        (130, 1024, True),
    ],
)
def test_how_small_an_image_may_be(tmp_path: Path, side: int, size: int, usable: bool):
    photo(side, side).save(tmp_path / "a.png")
    if usable:
        assert read_image(tmp_path / "a.png", size).shape == (3, size, size)
    else:
        with pytest.raises(InputError, match=f"{side} x {side}"):
            read_image(tmp_path / "a.png", size)
