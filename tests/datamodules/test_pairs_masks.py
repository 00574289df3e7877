"""Masks of every kind that data sets have, and those that would be read wrongly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tenshot.datamodules.pairs import ConditionReader, Masks, class_colours, colours_of, read_colours
from tenshot.datamodules.pairs.masks import palette_in_use
from tenshot.datamodules.reading import ImageError, file_bytes, opened
from tenshot.errors import InputError

CLASSES = np.random.default_rng(0).integers(0, 4, (16, 16), dtype=np.uint8)
COLOURS = {int(k): tuple(class_colours()[k + 1].tolist()) for k in range(4)}


def read(path: Path, masks: Masks | None = None, size: int = 16) -> torch.Tensor:
    return ConditionReader("mask", size, masks=masks or Masks()).decoded([file_bytes(path)], [str(path)])[0]


def ids(path: Path, **options: Any) -> np.ndarray:
    """The ids whose colours a mask is given: (H, W)."""
    found = read(path, Masks(**options))
    table = {tuple(colour): number for number, colour in enumerate(class_colours().tolist())}
    return np.array([[table[tuple(found[:, y, x].tolist())] for x in range(16)] for y in range(16)])


def palette_png(path: Path, values: np.ndarray, colours: list[int]) -> None:
    image = Image.fromarray(values, "P")
    image.putpalette(colours)
    image.save(path)


def grey_of_bits(path: Path, bits: int) -> None:
    """A grey PNG that stores so many bits a pixel; made by hand, Pillow writes none."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = ((CLASSES >> np.arange(7, -1, -1)[:, None, None] & 1)[-bits:].transpose(1, 2, 0)).reshape(16, -1)
    packed = b"".join(b"\0" + np.packbits(row.astype(np.uint8)).tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", 16, 16, bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")
    )


KINDS: dict[str, tuple[dict[str, Any], Callable[[Path], object]]] = {
    "grey": ({}, lambda path: Image.fromarray(CLASSES).save(path)),
    "grey of 2 bits": ({}, lambda path: grey_of_bits(path, 2)),
    "grey of 4 bits": ({}, lambda path: grey_of_bits(path, 4)),
    "grey saved as RGB": ({}, lambda path: Image.fromarray(CLASSES).convert("RGB").save(path)),
    "grey saved as opaque RGBA": ({}, lambda path: Image.fromarray(CLASSES).convert("RGBA").save(path)),
    "palette with other colours": ({}, lambda path: palette_png(path, CLASSES, list(range(12)))),
    "COCO-Stuff": ({"label_map": "coco_stuff"}, lambda path: Image.fromarray(CLASSES).save(path)),
    "colours": (
        {"label_map": "colours"},
        lambda path: Image.fromarray(np.array([COLOURS[k] for k in CLASSES.flat], np.uint8).reshape(16, 16, 3)).save(
            path
        ),
    ),
    "palette read by its colours": (
        {"label_map": "colours"},
        lambda path: palette_png(path, 3 - CLASSES, [v for k in (3, 2, 1, 0) for v in COLOURS[k]]),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_class_k_has_the_colour_of_id_k_plus_one(tmp_path: Path, kind: str):
    options, write = KINDS[kind]
    write(tmp_path / "a.png")
    assert np.array_equal(ids(tmp_path / "a.png", **options), CLASSES + 1)


def test_a_mask_of_one_bit_has_two_classes(tmp_path: Path):
    Image.fromarray(CLASSES > 1).save(tmp_path / "a.png")
    assert np.array_equal(ids(tmp_path / "a.png"), (CLASSES > 1) + 1)


def test_colours_of_the_users_own(tmp_path: Path):
    (tmp_path / "colours.txt").write_text("\ufeff# road, sky, tree\n10 20 30 road\n\n1,2,3, sky\n255 0 0\n")
    own = np.array([(10, 20, 30), (1, 2, 3), (255, 0, 0), (0, 0, 0)], np.uint8)
    Image.fromarray(own[CLASSES]).save(tmp_path / "a.png")
    table = read_colours(str(tmp_path / "colours.txt"))
    expected = np.where(CLASSES == 3, 0, CLASSES + 1)
    assert np.array_equal(ids(tmp_path / "a.png", label_map="colours", colours=table), expected)
    expected = np.where(CLASSES == 3, 183, CLASSES + 1)
    assert np.array_equal(ids(tmp_path / "a.png", label_map="colours", colours=table, unlabelled=183), expected)


@pytest.mark.parametrize(
    ("label_map", "none", "usual"), [("indices", 255, 183), ("coco_stuff", 255, 183), ("ade20k", 0, 1)]
)
def test_pixels_without_a_class(tmp_path: Path, label_map: str, none: int, usual: int):
    values = np.where(CLASSES == 0, none, CLASSES).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    for unlabelled, expected in ((None, usual), (0, 0), (183, 183)):
        found = ids(tmp_path / "a.png", label_map=label_map, unlabelled=unlabelled)
        assert np.array_equal(found, np.where(CLASSES == 0, expected, CLASSES + 1))


def test_the_wall_and_the_building_of_ade20k_have_pitis_colours(tmp_path: Path):
    Image.fromarray(np.array([[1, 2], [2, 150]], np.uint8)).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png", Masks("ade20k"), 2)
    assert found[:, 0, 0].tolist() == [0, 128, 0]
    assert found[:, 0, 1].tolist() == [128, 128, 0]


def test_full_ade20k_is_taken_as_it_is(tmp_path: Path):
    pixels = np.random.default_rng(1).integers(0, 12, (16, 16, 3), dtype=np.uint8) * 10
    Image.fromarray(pixels).save(tmp_path / "a_seg.png")
    assert np.array_equal(read(tmp_path / "a_seg.png", Masks("ade20k_seg")).permute(1, 2, 0).numpy(), pixels)


def test_no_colour_is_mixed_in_resizing(tmp_path: Path):
    """PITI's call: the nearest pixel of a palette image in RGB."""
    classes = np.random.default_rng(2).integers(0, 182, (37, 53), dtype=np.uint8)
    Image.fromarray(classes).save(tmp_path / "a.png")
    coloured = Image.fromarray(colours_of(torch.from_numpy(classes) + 1).permute(1, 2, 0).numpy())
    expected = np.array(coloured.resize((24, 24), Image.Resampling.NEAREST))
    assert np.array_equal(read(tmp_path / "a.png", size=24).permute(1, 2, 0).numpy(), expected)


def sixteen_bits(path: Path) -> None:
    Image.fromarray(CLASSES.astype(np.uint16)).save(path)


def some_strange(path: Path) -> None:
    pixels = np.array([COLOURS[k] for k in CLASSES.flat], np.uint8).reshape(16, 16, 3)
    pixels[0, :5], pixels[1, :2], pixels[2, 0], pixels[3, 0] = (1, 2, 3), (4, 5, 6), (7, 8, 9), (9, 9, 8)
    Image.fromarray(pixels).save(path)


def half_transparent(path: Path) -> None:
    image = Image.fromarray(CLASSES).convert("RGBA")
    image.putalpha(100)
    image.save(path)


@pytest.mark.parametrize(
    ("options", "name", "write", "words"),
    [
        ({}, "a.jpg", lambda path: Image.fromarray(CLASSES).save(path), ["JPEG", "PNG"]),
        ({}, "jpeg.png", lambda path: Image.fromarray(CLASSES).save(path, "JPEG"), ["JPEG"]),
        ({}, "a.png", sixteen_bits, ["more than 8 bits", "8-bit PNG"]),
        ({}, "a.png", some_strange, ["has colours", "--data.label_map indices", "colours"]),
        ({}, "a.png", half_transparent, ["partly transparent"]),
        (
            {"label_map": "colours"}, "a.png", some_strange,
            ["4 colours", "(1, 2, 3): 5 pixels, (4, 5, 6): 2 pixels", "--data.colours FILE"],
        ),
        (
            {"label_map": "coco_stuff"}, "a.png", lambda path: Image.fromarray(CLASSES + 180).save(path),
            ["value 182:", "value 183:", "0 … 181 and 255 for no class"],
        ),
        (
            {"label_map": "ade20k"}, "a.png", lambda path: Image.fromarray(np.full((4, 4), 151, np.uint8)).save(path),
            ["value 151: 16 pixels", "1 … 150 and 0 for no class"],
        ),
        (
            {}, "a.png", lambda path: Image.fromarray(np.full((4, 4), 182, np.uint8)).save(path),
            ["value 182: 16 pixels", "--data.unlabelled 0"],
        ),
        (
            {"label_map": "ade20k_seg"}, "a.png", lambda path: Image.new("RGB", (4, 4), (128, 0, 0)).save(path),
            ["red 128: 16 pixels", "ADE20K"],
        ),
        (
            {"palette": {1: (9, 9, 9)}}, "a.png", lambda path: palette_png(path, CLASSES, list(range(12))),
            ["index 1", "(3, 4, 5)", "(9, 9, 9)", "--data.label_map colours"],
        ),
    ],
)  # fmt: skip
def test_masks_that_would_be_read_wrongly_are_refused(
    tmp_path: Path, options: dict[str, Any], name: str, write: Callable[[Path], object], words: list[str]
):
    write(tmp_path / name)
    with pytest.raises(ImageError) as caught:
        read(tmp_path / name, Masks(**options))
    assert all(word in str(caught.value) for word in [*words, str(tmp_path / name)]), str(caught.value)
    assert "\n" not in str(caught.value)


def test_masks_that_lack_classes_and_agree_in_their_palettes_are_read(tmp_path: Path):
    palette_png(tmp_path / "a.png", CLASSES, list(range(12)))
    in_use = palette_in_use(opened(file_bytes(tmp_path / "a.png"), "a", as_stored=True))
    assert in_use == {k: (3 * k, 3 * k + 1, 3 * k + 2) for k in range(4)}
    palette_png(tmp_path / "b.png", np.full((16, 16), 2, np.uint8), [0] * 6 + [6, 7, 8])
    assert (ids(tmp_path / "b.png", palette=in_use) == 3).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("10 20\n", "line 1 is no colour (10 20)"),
        ("10 20 256\n", "line 1 is no colour"),
        ("1 2 3 a\n4 5 6\n1 2 3 b\n", "line 3 is the colour of class 0 again"),
        ("# nothing\n", "has 0 colours"),
        ("".join(f"{k} 1 2\n" for k in range(256)), "has 256 colours"),
        (None, "cannot be read"),
    ],
)
def test_files_of_colours_that_are_none(tmp_path: Path, content: str | None, words: str):
    if content is not None:
        (tmp_path / "colours.txt").write_text(content)
    with pytest.raises(InputError) as caught:
        read_colours(str(tmp_path / "colours.txt"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_map": "indexes"}, "did you mean 'indices'"),
        ({"unlabelled": 256}, "--data.unlabelled is 256"),
        ({"unlabelled": -1}, "--data.unlabelled is -1"),
        ({"label_map": "coco_stuff", "unlabelled": 182}, "the colour of class 181"),
        ({"label_map": "ade20k_seg", "unlabelled": 0}, "drop it"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str):
    with pytest.raises(InputError) as caught:
        Masks(**options)
    assert words in str(caught.value)
