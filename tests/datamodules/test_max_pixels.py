"""Images of too many pixels are refused, and limits out of range."""

import struct
import zlib
from pathlib import Path

import pytest
import tiny
from image_sets import folder, png
from PIL import ImageFile

from tenshot.datamodules import FewShot, ImageFolder
from tenshot.errors import InputError


def header_of_a_png(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))


def test_images_of_too_many_pixels_are_refused_from_their_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def never(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    for side, refused in ((60000, True), (12248, True), (12247, False)):
        (tmp_path / "a.png").write_bytes(header_of_a_png(side))
        with pytest.raises(InputError) as caught:
            FewShot(str(tmp_path), shots=1, image_size=32).setup("fit")
        too_many = f"a.png has {side} x {side} pixels, more than the 150000000 that are read: scale it down, or raise"
        assert (too_many in str(caught.value)) == refused
        assert ("decoded" in str(caught.value)) != refused


@pytest.mark.parametrize("most", [1600, 1599])
def test_how_many_pixels_are_too_many_is_an_option(tenshot: tiny.Run, tmp_path: Path, most: int):
    root = folder(tmp_path, {"a.png": png(0), "b.png": png(1)})
    few, large = (
        FewShot(str(root), image_size=32, max_pixels=most),
        ImageFolder(str(root), 32, max_pixels=most, max_unusable=0, num_workers=0),
    )
    if most == 1600:
        assert len(few.train_source.read([0, 1])["image"]) == len(large.train_source.read([0, 1])["image"]) == 2
    else:
        for module in (few, large):
            with pytest.raises(InputError, match=r"a\.png has 40 x 40 pixels, more than the 1599 that are read"):
                module.train_source.read([0])
    words = ["prepare", root, tmp_path / "out", "--image_size", "32", "--workers", "1", "--max_pixels", str(most)]
    outcome = tenshot(*words)
    assert "2 of 2 images" in outcome.out if most == 1600 else "a.png has 40 x 40 pixels" in outcome.complaint


@pytest.mark.parametrize("option", ["max_pixels", "max_unusable"])
def test_limits_out_of_range_are_refused(tmp_path: Path, option: str):
    with pytest.raises(InputError, match=rf"--data\.{option} is -1: choose at least"):
        ImageFolder(str(tmp_path), 32, **{option: -1})  # type: ignore[arg-type]
