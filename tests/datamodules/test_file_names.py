"""Which files are images, by their names and by where links lead: no file is read."""

import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from tenshot.datamodules import files
from tenshot.datamodules.reading import ImageError, list_images
from tenshot.datamodules.refusals import Refusals
from tenshot.errors import InputError


@pytest.mark.parametrize("avif", [True, False, None])
@pytest.mark.parametrize("jpeg_2000", [True, False])
def test_formats_are_those_that_this_pillow_decodes(monkeypatch: pytest.MonkeyPatch, jpeg_2000: bool, avif: bool):
    """An older Pillow does not know of AVIF."""

    def check_module(name: str) -> bool:
        assert avif is not None
        return {"avif": avif}[name]

    modules = {"pil": ""} | ({} if avif is None else {"avif": ""})
    codecs = {"jpg_2000": jpeg_2000}
    pillow = SimpleNamespace(check_codec=codecs.__getitem__, modules=modules, check_module=check_module)
    monkeypatch.setattr(files, "features", pillow)
    readable = files._readable()
    assert (".jp2" in readable) == (".j2k" in readable) == jpeg_2000
    assert (".avif" in readable) == bool(avif)
    assert {".jpg", ".jfif", ".jpe", ".png", ".tga", ".webp"} <= set(readable)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a/b.TAR.GZ", ".tar.gz"), ("b.PSD", ".psd"), ("b.jpg_large", ".jpg_large"), ("b.png", None), ("b", None),
        ("png.txt", None), ("@EADIR/b.psd", None),
    ],
)  # fmt: skip
def test_what_is_left_out_by_its_ending(name: str, ending: str | None):
    assert files.left_out_ending(name) == ending


def test_what_would_read_it_is_said():
    count = Counter({".avif": 1, ".hif": 2, ".psd": 2})
    assert files.left_out_words(count) == (
        "2 .hif (install pillow-heif to read them), 2 .psd, 1 .avif (Pillow 11.3 reads them)"
    )


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ({"a": "set/z/deep"}, []),  # comes before the folder itself
        ({"up": "."}, []),  # what lies beside the set is not in it
        ({"a": "other/deep", "b": "other"}, ["a/1.png", "b/0.png"]),  # comes before a link to a folder around it
        ({"a": "other", "b": "other/deep"}, ["a/0.png", "a/deep/1.png"]),
        ({"a": "other/deep", "../other/deep/up": "other"}, ["a/1.png"]),
        ({"z/B.PNG": "set/z/deep/2.png", "a.png": "set/z/C.PNG"}, ["z/C.PNG"]),  # to files that are listed
    ],
)
def test_links_that_lead_to_a_folder_twice(tmp_path: Path, links: dict[str, str], found: list[str]):
    more = ["set/z/C.PNG"] if "a.png" in links else []
    for name in ("set/z/deep/2.png", "other/0.png", "other/deep/1.png", *more):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name, target in links.items():
        (tmp_path / "set" / name).symlink_to(tmp_path / target)
    expected = [tmp_path / "set" / name for name in [*found, "z/deep/2.png"]]
    assert list_images(str(tmp_path / "set"), "--data.root") == expected


def test_what_is_no_file_is_no_image(tmp_path: Path):
    """Reading a pipe would wait for ever."""
    (tmp_path / "a.png").touch()
    os.mkfifo(tmp_path / "b.png")
    assert list_images(str(tmp_path), "--data.root") == [tmp_path / "a.png"]


def test_an_image_beyond_use_is_said_once_and_one_too_many_is_an_error(caplog: pytest.LogCaptureFixture):
    refusals = Refusals(1, "--data.max_unusable")
    for _ in range(2):
        refusals.add(ImageError("a.png is torn", "unreadable"))
    assert caplog.messages == ["a.png is torn; another image takes its place (1 of at most 1)"]
    with pytest.raises(
        InputError, match=r"b\.png is torn \(1 others cannot be used either, --data\.max_unusable is 1\)"
    ):
        refusals.add(ImageError("b.png is torn", "unreadable"))
