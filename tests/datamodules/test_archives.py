"""Folders, zips and tar shards hold the same images, and what is wrong with an archive is one line that names it."""

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from tenshot.datamodules import ImageFolder
from tenshot.datamodules.index import open_index
from tenshot.datamodules.reading import decoded
from tenshot.errors import InputError

Files = Mapping[str, bytes]


def encoded(number: int, ending: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(data.astronaut()[8 * number : 8 * number + 40, :48]).save(
        out, {"jpg": "JPEG", "png": "PNG"}[ending]
    )
    return out.getvalue()


@pytest.fixture(scope="module")
def files() -> Files:
    """Images of two classes, one of them nested, and what is to be passed over."""
    names = ["cat/0.jpg", "cat/deep/1.png", "cat/2.jpg", "dog/0.png", "dog/1.jpg", "dog b/0.png"]
    images = {name: encoded(number, name[-3:]) for number, name in enumerate(names)}
    return images | {"cat/notes.txt": b"none", "dog/.hidden.png": b"none", "__MACOSX/dog/._0.png": b"none"}


def write_folder(files: Files, root: Path) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_zip(files: Files, path: Path, packing: int = zipfile.ZIP_STORED, below: str = "") -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(below + name, content)
    return path


def write_tar(files: Files, path: Path, below: str = "", form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(below + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_shards(files: Files, root: Path) -> Path:
    """Dealt out, so that neighbours in the order lie in different archives."""
    root.mkdir()
    names = list(files)
    for number in range(3):
        write_tar({name: files[name] for name in names[number::3]}, root / f"part-{number}.tar")
    return root


LAYOUTS: dict[str, Callable[[Files, Path], Path]] = {
    "folder": lambda files, root: write_folder(files, root / "set"),
    "stored zip": lambda files, root: write_zip(files, root / "set.zip"),
    "deflated zip": lambda files, root: write_zip(files, root / "set.ZIP", zipfile.ZIP_DEFLATED),
    "zip of a folder": lambda files, root: write_zip(files, root / "set.zip", below="set/"),
    "tar": lambda files, root: write_tar(files, root / "set.tar"),
    "tar of a folder with dots": lambda files, root: write_tar(files, root / "set.tar", "./set/", tarfile.PAX_FORMAT),
    "shards": lambda files, root: write_shards(files, root / "set"),
    "pattern": lambda files, root: write_shards(files, root / "set") / "part-*.tar",
}


def module(root: Path, **options: object) -> ImageFolder:
    return ImageFolder(str(root), **({"image_size": 32, "batch_size": 4, "num_workers": 0, "labels": True} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_batches_bit_for_bit(files: Files, tmp_path: Path, layout: str):
    ours = module(LAYOUTS[layout](files, tmp_path))
    assert ours.class_names == ["cat", "dog", "dog b"]
    assert len(ours.train_source) == 6
    whole = ours.train_source.read(range(6))
    for place, name in enumerate(["cat/0.jpg", "cat/2.jpg", "cat/deep/1.png", "dog/0.png", "dog/1.jpg", "dog b/0.png"]):
        assert torch.equal(whole["image"][place], decoded(files[name], name, 32)), name
        assert ours.class_names[whole["label"][place]] == name.split("/")[0]

    folder = module(write_folder(files, tmp_path / "again"))
    for one, other in zip(islice(ours.train_dataloader(), 4), folder.train_dataloader(), strict=False):
        assert one.keys() == other.keys() == {"image", "label", "flip"}
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_workers_read_archives_too(files: Files, tmp_path: Path):
    path = write_shards(files, tmp_path / "set")
    alone, shared = (module(path, num_workers=workers).train_dataloader() for workers in (0, 2))
    for one, other in zip(islice(alone, 5), shared, strict=False):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_an_index_goes_to_other_processes_as_the_name_of_its_file(files: Files, tmp_path: Path):
    index = open_index(str(write_zip(files, tmp_path / "a.zip")), "--data.root")
    index.read(0)
    sent = pickle.dumps(index)
    assert len(sent) < 500
    there = pickle.loads(sent)
    assert [there.read(row) for row in range(6)] == [index.read(row) for row in range(6)]
    assert there.title(3) == index.title(3)


def test_webdataset_classes_are_in_the_file_beside_the_image(files: Files, tmp_path: Path):
    image = files["cat/0.jpg"]
    samples = {f"{number:04d}.{ending}": content for number, label in enumerate(["10", "2", "10"])
               for ending, content in (("cls", label.encode()), ("jpg", image), ("json", b"{}"))}  # fmt: skip
    ours = module(write_tar(samples, tmp_path / "a.tar"))
    assert ours.class_names == ["2", "10"]
    assert ours.train_source.read(range(3))["label"].tolist() == [1, 0, 1]

    del samples["0001.cls"]
    with pytest.raises(InputError, match=r"b\.tar: 0001\.jpg has no class in .*b\.tar: \.cls files: give it one"):
        module(write_tar(samples, tmp_path / "b.tar")).setup("fit")


def test_of_images_with_one_name_in_an_archive_the_last_counts(files: Files, tmp_path: Path):
    old, new = files["cat/0.jpg"], files["dog/1.jpg"]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("a.jpg", old), ("b.jpg", old), ("a.jpg", new)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    index = open_index(str(tmp_path / "a.tar"), "--data.root")
    assert [index.read(row) for row in range(len(index))] == [new, old]


def test_more_archives_than_may_be_open(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tenshot.datamodules.archives.MOST_OPEN", 2)
    names = [name for name in files if name.endswith(".jpg")]
    for number in range(5):
        write_tar({f"{number}.jpg": files[names[number % len(names)]]}, tmp_path / f"{number}.tar")
    index = open_index(str(tmp_path), "--data.root")
    before = len(os.listdir("/proc/self/fd"))
    for row in np.random.default_rng(0).integers(0, 5, 20):
        assert index.read(int(row)) == files[names[row % len(names)]]
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def complaint(root: Path, **options: object) -> str:
    def use() -> None:
        source = module(root, labels=False, max_unusable=0, **options).train_source
        source.read(range(len(source)))

    with pytest.raises(InputError) as caught:
        use()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def cut(path: Path, length: int) -> Path:
    os.truncate(path, length)
    return path


def overwritten(path: Path, where: bytes, with_: bytes) -> Path:
    content = path.read_bytes()
    assert where in content
    path.write_bytes(content.replace(where, with_, 1))
    return path


def encrypted(files: Files, path: Path) -> Path:
    content = bytearray(write_zip(files, path).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    return path


def end_of_first(files: Files) -> int:
    return 512 + -(-len(files["cat/0.jpg"]) // 512) * 512


def joined(files: Files, path: Path) -> Path:
    path.write_bytes(write_tar(files, path).read_bytes() * 2)
    return path


def damaged_deflated(files: Files, path: Path) -> Path:
    write_zip({"a.png": bytes(9999), **files}, path, zipfile.ZIP_DEFLATED)
    return overwritten(path, b"a.png\xed", b"a.png\xff")


def of(content: bytes) -> Callable[[Files, Path], Path]:
    def write(files: Files, path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


BAD: dict[str, tuple[str, Callable[[Files, Path], Path], str]] = {
    "zip cut off": ("a.zip", lambda f, p: cut(write_zip(f, p), 3000), "cut off or damaged"),
    "no zip": ("a.zip", of(b"nothing"), "cut off or damaged"),
    "empty zip": ("a.zip", of(b""), "cut off or damaged"),
    "empty tar": ("a.tar", of(b""), "cut off or damaged"),
    "cut in an image": ("a.tar", lambda f, p: cut(write_tar(f, p), 700), "cut off or damaged"),
    "cut in a header": ("a.tar", lambda f, p: cut(write_tar(f, p), end_of_first(f) + 100), "cut off or damaged"),
    "cut between images": ("a.tar", lambda f, p: cut(write_tar(f, p), end_of_first(f)), "no end mark"),
    "damaged header": ("a.tar", lambda f, p: overwritten(write_tar(f, p), b"dog/0", b"dxg/0"), "no end mark"),
    "joined tars": ("a.tar", joined, "more follows its end mark"),
    "no tar": ("a.tar", of(b"nothing" * 1000), "cut off or damaged"),
    "damaged": (
        "a.zip",
        lambda f, p: overwritten(write_zip(f, p), f["dog/1.jpg"][-9:], bytes(9)),
        "dog/1.jpg is damaged",
    ),
    "damaged deflated": ("a.zip", damaged_deflated, "a.png is damaged"),
    "encrypted": ("a.zip", encrypted, "is encrypted"),
    "other packing": ("a.zip", lambda f, p: write_zip(f, p, zipfile.ZIP_LZMA), "by deflate"),
    "compressed tar": ("a.tar.gz", of(b"any"), "unpack it to a .tar"),
    "a name that leads out": ("a.tar", lambda f, p: write_tar({"../a.png": b""}, p), "leads out of it"),
    "an absolute name": ("a.zip", lambda f, p: write_zip({"/a.png": b""}, p), "leads out of it"),
    "no images": ("a.zip", lambda f, p: write_zip({"a.txt": b""}, p), "holds no images"),
    "not images": ("a.zip", lambda f, p: write_zip({"a.png": b"x", "b.png": b"y"}, p), "a.png is not an image"),
    "another kind": ("a.rar", of(b"any"), "is a file, not a folder: set --data.root"),
    "pattern of nothing": ("b-*.tar", lambda f, p: p, "does not exist: set --data.root"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_archive_that_cannot_be_used_is_named_in_one_line(files: Files, tmp_path: Path, case: str):
    name, write, found = BAD[case]
    message = complaint(write(files, tmp_path / name))
    assert str(tmp_path / name) in message
    assert found in message


def test_an_archive_that_changes_under_a_run_is_named(files: Files, tmp_path: Path):
    ours = module(write_tar(files, tmp_path / "a.tar"))
    ours.setup("fit")
    write_tar(files, tmp_path / "a.tar", below="longer/")
    with pytest.raises(InputError, match=r"a\.tar has changed since its images were listed"):
        ours.train_source.read([0])
    (tmp_path / "a.tar").unlink()
    with pytest.raises(InputError, match=r"a\.tar cannot be read \(No such file"):
        ours.train_source.read([0])
