"""The list of images is made once, mapped, and made again when the images change."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from tenshot.datamodules import ImageFolder, index
from tenshot.datamodules.choice import BY_LISTING
from tenshot.datamodules.index import ImageIndex, cache_folder, open_index
from tenshot.datamodules.reading import list_images
from tenshot.errors import InputError


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The roots listed from now on."""
    roots: list[str] = []
    real = index.list_root

    def counted(root: str, option: str) -> index.Listing:
        roots.append(root)
        return real(root, option)

    monkeypatch.setattr(index, "list_root", counted)
    return roots


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images in class folders, made some time ago: a change now has another time."""
    for number, kind in enumerate(("cat", "dog")):
        (tmp_path / "set" / kind).mkdir(parents=True)
        Image.fromarray(data.astronaut()[number : 32 + number, :32]).save(tmp_path / "set" / kind / "a.png")
    for path in (tmp_path / "set", tmp_path / "set" / "cat", tmp_path / "set" / "dog"):
        os.utime(path, (1e9, 1e9))
    return tmp_path / "set"


def names(opened: ImageIndex) -> list[str]:
    return [opened.name(row) for row in range(len(opened))]


def opened(root: Path | str) -> ImageIndex:
    return open_index(str(root), "--data.root")


def test_it_lists_what_listing_files_lists(photos: Path):
    assert [opened(photos).title(row) for row in range(5)] == [str(file) for file in list_images(str(photos), "")]


def test_names_of_any_bytes(tmp_path: Path):
    odd = [b"\xff\xfe.png", "größe\n1.png".encode(), b"a b.png"]
    for name in odd:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    assert {opened(tmp_path).read(row) for row in range(3)} == set(odd)


def test_it_is_listed_once_and_mapped(folder: Path, listings: list[str]):
    first, second = opened(folder), opened(f"{folder}/")
    assert listings == [str(folder)]
    assert isinstance(second.entries, np.memmap)
    assert (names(second), second.digest) == (["cat/a.png", "dog/a.png"], first.digest)


def add(folder: Path) -> None:
    (folder / "dog" / "b.png").write_bytes(b"")


def remove(folder: Path) -> None:
    (folder / "dog" / "a.png").unlink()


def rename(folder: Path) -> None:
    (folder / "cat" / "a.png").rename(folder / "cat" / "c.png")


def add_folder(folder: Path) -> None:
    (folder / "cat" / "deep").mkdir()
    (folder / "cat" / "deep" / "a.png").write_bytes(b"")


def remove_folder(folder: Path) -> None:
    (folder / "dog" / "a.png").unlink()
    (folder / "dog").rmdir()


@pytest.mark.parametrize("change", [add, remove, rename, add_folder, remove_folder])
def test_it_is_listed_again_when_images_come_and_go(folder: Path, listings: list[str], change: Callable[[Path], None]):
    opened(folder)
    change(folder)
    expected = [file.relative_to(folder).as_posix() for file in list_images(str(folder), "")]
    assert names(opened(folder)) == expected
    assert len(listings) == 2
    opened(folder)
    assert len(listings) == 2


def test_an_image_written_anew_is_read_anew_without_listing(folder: Path, listings: list[str]):
    before = opened(folder)
    (folder / "dog" / "a.png").write_bytes(b"other")
    assert before.read(1) == opened(folder).read(1) == b"other"
    assert len(listings) == 1


@pytest.mark.parametrize("damage", [b"", b"tenshot images 0\n", b"tenshot images 1\n\5\0\0\0\0\0\0\0{}", None])
def test_a_damaged_list_is_made_again(folder: Path, listings: list[str], damage: bytes | None):
    file = opened(folder).file
    assert file is not None
    file.write_bytes(file.read_bytes()[:-3] if damage is None else damage)
    assert names(opened(folder)) == ["cat/a.png", "dog/a.png"]
    assert len(listings) == 2
    assert [path.suffix for path in cache_folder().glob(f"{file.stem}*")].count(".partial") == 0


def test_without_a_place_to_keep_it_there_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TENSHOT_CACHE", str(folder / "cat" / "a.png"))  # nobody can write below a file
    with pytest.warns(UserWarning, match=r"cannot be kept in .*: set TENSHOT_CACHE to a folder that can be written"):
        first = opened(folder)
    assert names(first) == ["cat/a.png", "dog/a.png"]
    assert len(first.read(0)) > 100


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path(os.environ["TENSHOT_CACHE"])
    monkeypatch.delenv("TENSHOT_CACHE")
    assert cache_folder() == Path("/x/tenshot")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert cache_folder() == Path("/h/.cache/tenshot")


def test_an_empty_root_is_not_the_working_directory():
    with pytest.raises(InputError, match=r"^--data\.root is empty"):
        opened("")


def test_of_several_processes_one_lists_for_all(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    processes = multiprocessing.get_context("fork")
    start, real = processes.Barrier(4), index.list_root

    def slow(root: str, option: str) -> index.Listing:
        with (tmp_path / "listed").open("a") as file:
            file.write("x")
        time.sleep(0.5)
        return real(root, option)

    def work(number: int) -> None:
        start.wait(20)
        (tmp_path / f"found{number}").write_text(" ".join(names(opened(folder))))

    monkeypatch.setattr(index, "list_root", slow)
    children = [processes.Process(target=work, args=(number,)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [(tmp_path / f"found{number}").read_text() for number in range(4)] == ["cat/a.png dog/a.png"] * 4
    assert (tmp_path / "listed").read_text() == "x"


def test_ten_thousand_images_are_few_bytes_each(tmp_path: Path):
    (tmp_path / "set").mkdir()
    for number in range(10000):
        (tmp_path / "set" / f"{number:08d}.png").touch()
    kept = opened(tmp_path / "set")
    assert len(kept) == 10000
    assert kept.name(9999) == "00009999.png"
    assert kept.file is not None
    assert kept.file.stat().st_size < 80 * 10000


def test_the_order_and_the_held_out_images_are_those_of_listed_files(folder: Path):
    """As before there was an index, so that older runs go on to the same numbers."""
    for number in range(20):
        Image.fromarray(data.astronaut()[number : 32 + number, :32]).save(folder / "dog" / f"{number}.png")
    module = ImageFolder(str(folder), 32, val_fraction=0.25, seed=5, num_workers=0)
    module.rule = BY_LISTING  # of runs from before there were records
    files = list_images(str(folder), "")
    drawn = np.random.default_rng(5).permutation(len(files))
    kept = round(0.25 * len(files))
    train, val = module.sources()
    assert val is not None
    assert [train.index.title(row) for row in train.rows] == [str(files[i]) for i in sorted(drawn[kept:])]  # type: ignore[attr-defined]
    assert [val.index.title(row) for row in val.rows] == [str(files[i]) for i in sorted(drawn[:kept])]  # type: ignore[attr-defined]
