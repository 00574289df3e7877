"""Hidden files and links back are never images in any reader; what is left out is said; labels of public data sets."""

import io
import json
import logging
import os
import struct
import sys
import tarfile
import types
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from PIL import Image, ImageFile
from skimage import data

from tenshot.datamodules import FewShot, ImageFolder, files
from tenshot.datamodules.index import open_index
from tenshot.datamodules.reading import list_pictures, read_picture
from tenshot.errors import InputError
from tenshot.lightning_modules import FolderGenerator

WANTED = ["cat/0.png", "cat/1.png", "dog/0.png"]
JUNK = [
    ".0.png", "._0.png", ".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/cat/._0.png", "__MACOSX/cat/0.png",
    "@eaDir/0.png/SYNOPHOTO_THUMB_M.png", "cat/@eaDir/1.png", "cat/.ipynb_checkpoints/0-checkpoint.png", "Thumbs.db",
    "cat/Thumbs.db", ".thumbnails/0.png", "$RECYCLE.BIN/0.png", "#recycle/0.png", "lost+found/0.png",
    "System Volume Information/0.png", "dog/._0.cls",
]  # fmt: skip


def photo(number: int = 0) -> Image.Image:
    return Image.fromarray(data.astronaut()[8 * number : 8 * number + 40, :40])


def png(number: int = 0) -> bytes:
    out = io.BytesIO()
    photo(number).save(out, "PNG")
    return out.getvalue()


def contents() -> dict[str, bytes]:
    return {name: png(number) for number, name in enumerate([*WANTED, *JUNK])}


def folder(root: Path, inside: dict[str, bytes] | None = None) -> Path:
    for name, content in (contents() if inside is None else inside).items():
        (root / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "set" / name).write_bytes(content)
    return root / "set"


def zipped(root: Path, inside: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        for name, content in (contents() if inside is None else inside).items():
            archive.writestr(name, content)
    return root / "set.zip"


def tarred(root: Path, inside: dict[str, bytes] | None = None, name: str = "set.tar") -> Path:
    with tarfile.open(root / name, "w") as archive:
        for file, content in (contents() if inside is None else inside).items():
            info = tarfile.TarInfo(file)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return root / name


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
    assert list_pictures(str(root), "--data.root") == [root / name for name in WANTED]
    assert len(FewShot(str(root), image_size=32).train_source) == 3
    assert FolderGenerator(str(root)).files == [root / name for name in WANTED]


def test_a_list_has_no_hidden_files(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = folder(tmp_path / ".cache")  # a folder of the user's may well begin with a dot
    listed = [str(root / name) for name in [*WANTED, *JUNK] if name.endswith(".png")]
    with caplog.at_level(logging.INFO):
        found = list_pictures(listed, "--data.root")
    assert found == [root / name for name in [*WANTED, ".thumbnails/0.png"]]  # named by the user, in no system folder
    assert f"--data.root: left out {len(listed) - 4} hidden files ({root}/.0.png, …)" in caplog.text
    with pytest.raises(InputError, match=r"--data\.root lists hidden files alone"):
        list_pictures([str(root / "._0.png")], "--data.root")


def test_prepare_passes_them_over(tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    outcome = tenshot("prepare", linked(tmp_path), tmp_path / "out", "--image_size", "32", "--workers", "1")
    assert "3 of 3 pictures" in outcome.out, outcome.err
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
    for read in (list_pictures, open_index):
        with pytest.raises(InputError, match=r"set/dog cannot be listed \(Permission denied\): let it be read"):
            read(str(root), "--data.root")


@pytest.mark.parametrize(("ending", "form"), [("jfif", "JPEG"), ("jpe", "JPEG"), ("JFIF", "JPEG"), ("tga", "TGA"),
                                              ("avif", "AVIF"), ("jp2", "JPEG2000"), ("pgm", "PPM")])  # fmt: skip
def test_further_endings_are_read(tmp_path: Path, ending: str, form: str):
    if f".{ending.lower()}" not in files.SUFFIXES:
        pytest.skip("this Pillow does not decode it")
    (tmp_path / "a.png").write_bytes(png())
    photo().convert("L" if ending == "pgm" else "RGB").save(tmp_path / f"b.{ending}", form)
    (path,) = [path for path in list_pictures(str(tmp_path), "") if path.name.startswith("b")]
    difference = read_picture(path, 32).float() - read_picture(tmp_path / "a.png", 32).float()
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
            assert len(list_pictures(str(root), "--data.root")) == 3
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
    for read in (list_pictures, open_index):
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


# labels of public data sets

NAMES = [f"0000{number % 2}/img{number:08d}.png" for number in range(4)]
LABELS = [10, 2, 10, 0]


def ada(labels: object, names: list[str] = NAMES) -> dict[str, bytes]:
    return {name: png(number) for number, name in enumerate(names)} | {
        "dataset.json": json.dumps({"labels": labels}).encode()
    }


@pytest.mark.parametrize("layout", [folder, zipped, tarred])
@pytest.mark.parametrize("below", ["", "ffhq/"])
def test_dataset_json_tells_the_classes(tmp_path: Path, layout: Callable[..., Path], below: str):
    """The number in the file is the class, as in StyleGAN2-ADA; folders are none, and a class may have no images."""
    inside = ada([[name, label] for name, label in zip(NAMES, LABELS, strict=True)])
    root = layout(tmp_path, {below + name: content for name, content in inside.items()})
    module = ImageFolder(str(root), 32, labels=True, num_workers=0)
    assert module.num_classes == 11
    assert module.class_names == [str(number) for number in range(11)]
    batch = module.train_source.read(range(4))
    found = {(int(image.long().sum()), int(label)) for image, label in zip(batch["image"], batch["label"], strict=True)}
    for number, name in enumerate(NAMES):
        (tmp_path / "one.png").write_bytes(inside[name])
        assert (int(read_picture(tmp_path / "one.png", 32).long().sum()), LABELS[number]) in found


BAD_LABELS: dict[str, tuple[object, str]] = {
    "none": (None, "dataset.json says that the images have no labels"),
    "vectors": ([[NAMES[0], [0.5, 1.0]]], "not with the number of a class"),
    "negative": ([[NAMES[0], -1]], "labels 00000/img00000000.png with -1, not with the number of a class"),
    "another kind": ({"images": []}, "has no list of labels as StyleGAN2-ADA writes it"),
    "missing": ([[name, 0] for name in NAMES[:3]], "00001/img00000003.png has no class in"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_labels_that_cannot_be_used_are_one_line(tmp_path: Path, case: str):
    labels, message = BAD_LABELS[case]
    root = zipped(tmp_path, ada(labels))
    assert len(ImageFolder(str(root), 32, num_workers=0).train_source) == 4  # of no matter without labels
    with pytest.raises(InputError) as caught:
        ImageFolder(str(root), 32, labels=True, num_workers=0).setup("fit")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_that_change_are_read_anew(tmp_path: Path):
    root = folder(tmp_path, ada([[name, 0] for name in NAMES]))
    assert ImageFolder(str(root), 32, labels=True).num_classes == 1
    (root / "dataset.json").write_bytes(ada([[name, 5] for name in NAMES])["dataset.json"])
    os.utime(root / "dataset.json", (1e9, 1e9))
    assert ImageFolder(str(root), 32, labels=True).num_classes == 6


def said(caplog: pytest.LogCaptureFixture, module: ImageFolder | FewShot) -> str:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        module.setup("fit")
    return caplog.text


def test_label_files_that_are_not_used_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = zipped(tmp_path, ada([[name, 3] for name in NAMES]))
    assert f"{root}: dataset.json tells 4 classes; they are not used (--data.labels true takes them)" in said(
        caplog, ImageFolder(str(root), 32, num_workers=0)
    )
    assert "not used" not in said(caplog, ImageFolder(str(root), 32, labels=True, num_workers=0))

    root = folder(tmp_path, {name: png() for name in WANTED} | {"metadata.jsonl": b"", "cat/labels.csv": b""})
    message = f"{root}/cat/labels.csv and 1 more: labels in there are not used"
    assert message in said(caplog, ImageFolder(str(root), 32, labels=True, num_workers=0))
    assert "its labels are not used" in said(caplog, FewShot(str(root), image_size=32))

    shard = tarred(tmp_path, {"0.png": png(), "0.cls": b"3", "1.png": png(), "1.cls": b"4"})
    assert f"{shard}: .cls files tells 2 classes; they are not used" in said(caplog, ImageFolder(str(shard), 32))


# too many pixels


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
    assert "2 of 2 pictures" in outcome.out if most == 1600 else "a.png has 40 x 40 pixels" in outcome.complaint


@pytest.mark.parametrize("option", ["max_pixels", "max_unusable"])
def test_limits_out_of_range_are_refused(tmp_path: Path, option: str):
    with pytest.raises(InputError, match=rf"--data\.{option} is -1: choose at least"):
        ImageFolder(str(tmp_path), 32, **{option: -1})  # type: ignore[arg-type]
