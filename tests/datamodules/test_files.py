"""Hidden files and links back are never images in any reader; what is left out is said."""

import logging
import os
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from image_sets import JUNK, WANTED, contents, folder, photo, png, tarred, zipped

from tenshot.datamodules import FewShot, files
from tenshot.datamodules.index import open_index
from tenshot.datamodules.reading import list_images, read_image
from tenshot.errors import InputError
from tenshot.lightning_modules import FolderGenerator


def linked(root: Path) -> Path:
    """Links to the folder, to one inside, to one around, to a file inside; and one in a linked folder, back again."""
    outside = root / "elsewhere"
    outside.mkdir()
    top = folder(root, {name: png(number) for number, name in enumerate(WANTED[:2])})
    (outside / "0.png").write_bytes(png(9))
    (outside / "again").symlink_to(outside)
    (outside / "home").symlink_to(top)
    (top / "dog").symlink_to(outside)
    for name, target in (("loop", top), ("up", root), ("cat/other", top / "cat"), ("cat/2.png", top / "cat/0.png")):
        (top / name).symlink_to(target)
    (top / "self.png").symlink_to(top / "self.png")
    return top


def shards(root: Path) -> Path:
    """A folder of archives, some hidden, one a link to another."""
    (root / "shards").mkdir()
    inside = contents()
    for name in ("a.tar", "._a.tar", "__MACOSX/b.tar", ".ipynb_checkpoints/a-checkpoint.tar"):
        (root / "shards" / name).parent.mkdir(exist_ok=True)
        tarred(root / "shards", inside, name)
    (root / "shards" / "b.tar").symlink_to(root / "shards" / "a.tar")
    return root / "shards"


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "folder": folder, "zip": zipped, "tar": tarred, "links": linked, "shards": shards,
    "pattern": lambda root: shards(root) / "*.tar", "folders": lambda root: shards(root).parent / "*" / "*.tar",
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hidden_files_and_links_back_are_no_images_and_no_classes(tmp_path: Path, layout: str):
    index = open_index(str(LAYOUTS[layout](tmp_path)), "--data.root")
    assert [index.name(row) for row in range(len(index))] == WANTED
    assert index.classes == ["cat", "dog"]


@pytest.mark.parametrize("layout", ["folder", "links"])
def test_nor_for_readers_of_files(tmp_path: Path, layout: str):
    root = LAYOUTS[layout](tmp_path)
    assert list_images(str(root), "--data.root") == [root / name for name in WANTED]
    assert len(FewShot(str(root), image_size=32).train_source) == 3
    assert FolderGenerator(str(root)).files == [root / name for name in WANTED]


def test_a_list_has_no_hidden_files(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = folder(tmp_path / ".cache")  # a folder of the user's may well begin with a dot
    listed = [str(root / name) for name in [*WANTED, *JUNK] if name.endswith(".png")]
    with caplog.at_level(logging.INFO):
        found = list_images(listed, "--data.root")
    assert found == [root / name for name in [*WANTED, ".thumbnails/0.png"]]  # named by the user, in no system folder
    assert f"--data.root: left out {len(listed) - 4} hidden files ({root}/.0.png, …)" in caplog.text
    with pytest.raises(InputError, match=r"--data\.root lists hidden files alone"):
        list_images([str(root / "._0.png")], "--data.root")


def test_prepare_passes_them_over(tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    outcome = tenshot("prepare", linked(tmp_path), tmp_path / "out", "--image_size", "32", "--workers", "1")
    assert "3 of 3 images" in outcome.out, outcome.err
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")) == WANTED


def test_links_to_what_is_listed_nowhere_else_are_followed(tmp_path: Path):
    """As git-annex and the caches of hubs have them: names are links to contents without a name, hidden or not."""
    root = folder(tmp_path, {".annex/1": png(1), "blobs/2": png(2), ".annex/3.png": png(3)})
    for link, target in (("a.png", ".annex/1"), ("b.png", "blobs/2"), ("c.png", ".annex/3.png")):
        (root / link).symlink_to(root / target)
    index = open_index(str(root), "--data.root")
    assert [index.name(row) for row in range(3)] == ["a.png", "b.png", "c.png"]
    assert [index.read(row) for row in range(3)] == [png(1), png(2), png(3)]


def test_a_link_in_a_zip_is_no_image(tmp_path: Path):
    path = zipped(tmp_path, {"a.png": png(0), "b.png": png(1)})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("c.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "a.png")
    assert len(open_index(str(path), "--data.root")) == 2


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root, real = folder(tmp_path), os.scandir

    def scandir(path: str) -> object:
        if path.endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for read in (list_images, open_index):
        with pytest.raises(InputError, match=r"set/dog cannot be listed \(Permission denied\): let it be read"):
            read(str(root), "--data.root")


@pytest.mark.parametrize(("ending", "form"), [("jfif", "JPEG"), ("jpe", "JPEG"), ("JFIF", "JPEG"), ("tga", "TGA"),
                                              ("avif", "AVIF"), ("jp2", "JPEG2000"), ("pgm", "PPM")])  # fmt: skip
def test_further_endings_are_read(tmp_path: Path, ending: str, form: str):
    if f".{ending.lower()}" not in files.SUFFIXES:
        pytest.skip("this Pillow does not decode it")
    (tmp_path / "a.png").write_bytes(png())
    photo().convert("L" if ending == "pgm" else "RGB").save(tmp_path / f"b.{ending}", form)
    (path,) = [path for path in list_images(str(tmp_path), "") if path.name.startswith("b")]
    difference = read_image(path, 32).float() - read_image(tmp_path / "a.png", 32).float()
    assert difference.abs().mean() < (25 if ending == "pgm" else 6)


LEFT_OUT = dict.fromkeys(
    ("a.psd", "b.CR2", "c.cr2", "cat/d.jpg~", "notes.txt", ".hidden.psd", "@eaDir/a.psd", "x/e.tar.gz"), b""
)


@pytest.mark.parametrize("layout", [folder, zipped, tarred])
def test_what_is_left_out_is_counted_by_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: Callable[..., Path]
):
    expected = "left out 2 .cr2, 1 .jpg~, 1 .psd, 1 .tar.gz"
    root = layout(tmp_path, {name: png() for name in WANTED} | LEFT_OUT)
    for _ in range(2):  # listed, and from the kept list
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert len(open_index(str(root), "--data.root")) == 3
        assert [r.message for r in caplog.records if "left out" in r.message] == [f"{root}: {expected}"]
    if layout is folder:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert len(list_images(str(root), "--data.root")) == 3
        assert f"{root}: {expected}" in caplog.text


def test_archives_beside_images_are_said_to_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tarred(folder(tmp_path, {"a.png": png()}))
    with caplog.at_level(logging.INFO):
        assert len(open_index(str(tmp_path / "set"), "")) == 1
    assert "left out 1 .tar" in caplog.text


def test_nothing_but_what_is_not_read_says_what_that_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "_UNREAD", {".heic"})
    monkeypatch.setattr(files, "SUFFIXES", (".png",))
    root = folder(tmp_path, {"a.heic": b"", "b.HEIC": b""})
    for read in (list_images, open_index):
        with pytest.raises(InputError, match=r"there is only 2 \.heic \(install pillow-heif to read them\)"):
            read(str(root), "--data.root")


def test_heic_is_read_where_the_plugin_is_installed(monkeypatch: pytest.MonkeyPatch):
    registered: list[bool] = []
    plugin = types.ModuleType("pillow_heif")
    plugin.register_heif_opener = lambda: registered.append(True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    assert {".heic", ".heif"} <= set(files._readable())
    assert registered == [True]
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert ".heic" not in files._readable()
