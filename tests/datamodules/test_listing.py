"""What is found in archives and patterns of them, beside what test_archives.py and test_files.py read from one."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from tenshot.datamodules.index import open_index
from tenshot.datamodules.listing import Listing, changed, list_root
from tenshot.errors import InputError


def zipped(path: Path, *names: str, **labels: int) -> Path:
    """An archive of empty files, with a dataset.json where labels are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
        if labels:
            archive.writestr("dataset.json", told(**labels))
    return path


def told(**labels: object) -> str:
    return json.dumps({"labels": list(labels.items())})


def listed(root: Path) -> Listing:
    return list_root(str(root), "--data.root")


def names(root: Path) -> list[str]:
    return [member.name for member in listed(root).members]


def test_a_pattern_takes_archives_that_are_not_hidden(tmp_path: Path):
    """Sorted; but the folders before its first sign are the user's to choose."""
    home = tmp_path / ".cache" / "__pycache__"
    for name in ("b/2.ZIP", "b/1.zip", "a/9.zip", "__MACOSX/0.zip", "@eaDir/3.zip"):
        zipped(home / name, f"{Path(name).name}.png")
    (home / "a" / "notes.txt").touch()
    (home / "b" / "4.zip").symlink_to(zipped(tmp_path / "elsewhere.zip", "4.png"))
    (home / "b" / "again.zip").symlink_to(home / "a" / "9.zip")
    found = listed(home / "*" / "*")
    assert found.archives == [str(home / name) for name in ("a/9.zip", "b/1.zip", "b/2.ZIP", "b/4.zip")]
    assert [found.archives[member.archive] for member in found.members if member.name == "4.png"] == [
        str(home / "b/4.zip")
    ]
    with pytest.raises(InputError, match="does not exist"):
        listed(home / "c*")


def test_a_folder_of_archives_is_read_in_their_order_whatever_their_endings(tmp_path: Path):
    for number, name in enumerate(("2.ZIP", "sub/0.zip", "10.zip")):
        zipped(tmp_path / "set" / name, f"{number}.png")
    assert listed(tmp_path / "set").archives == [
        str(tmp_path / "set" / name) for name in ("10.zip", "2.ZIP", "sub/0.zip")
    ]
    (tmp_path / "set" / "a.png").touch()
    found = listed(tmp_path / "set")
    assert [member.name for member in found.members] == ["a.png"]
    assert (found.archives, found.left_out) == ([], {".zip": 3})


def test_labels_in_one_of_two_archives_leave_the_images_of_the_other_without(tmp_path: Path):
    zipped(tmp_path / "set" / "1.zip", "a.png", **{"a.png": 2})
    zipped(tmp_path / "set" / "2.zip", "b.png")
    found = listed(tmp_path / "set")
    assert {member.name: member.label for member in found.members} == {"a.png": "2", "b.png": ""}
    assert found.num_labels == 3
    assert found.labels_from == f"{tmp_path}/set/1.zip: dataset.json"


def test_labels_that_cannot_be_used_in_one_of_two_archives_are_said(tmp_path: Path):
    zipped(tmp_path / "set" / "1.zip", "a.png", **{"a.png": 2})
    zipped(tmp_path / "set" / "2.zip", "b.png", **{"b.png": -1})
    found = listed(tmp_path / "set")
    assert found.labels_from == f"{tmp_path}/set/2.zip: dataset.json"
    assert found.labels_problem == "labels b.png with -1, not with the number of a class"
    assert [member.label for member in found.members] == [None, None]


def test_a_label_file_without_images_beside_it_is_said_not_to_be_used(tmp_path: Path):
    zipped(tmp_path / "set" / "1.zip", "cat/a.png", "dog/b.png")
    (tmp_path / "set" / "dataset.json").write_text(told(**{"cat/a.png": 0}))
    found = listed(tmp_path / "set")
    assert (found.labels_from, found.num_labels) == ("", None)
    assert found.other_label_files == [f"{tmp_path}/set/dataset.json"]
    assert open_index(str(tmp_path / "set"), "").classes == ["cat", "dog"]


def test_folders_in_an_archive_are_no_files(tmp_path: Path):
    path = zipped(tmp_path / "set.zip", "a.png")
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("b.png", "dataset.json", "c.psd"):
            archive.mkdir(name)
    found = listed(path)
    assert [member.name for member in found.members] == ["a.png"]
    assert (found.labels_from, found.other_label_files, found.left_out) == ("", [], {})


@pytest.mark.parametrize(
    ("name", "size", "classes"), [("._0", 1, ["cat"]), ("0", 257, ["cat"]), ("0", 256, ["3" * 256])]
)
def test_hidden_and_long_files_tell_no_class(tmp_path: Path, name: str, size: int, classes: list[str]):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for file, content in (("cat/0.png", b""), (f"cat/{name}.cls", b"3" * size)):
            info = tarfile.TarInfo(file)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert open_index(str(tmp_path / "set.tar"), "").classes == classes


def test_an_image_more_in_a_folder_below_is_noticed(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "0.png").touch()
    found = listed(tmp_path)
    assert not changed(found.root, found.archives, found.stamps)
    (tmp_path / "a" / "b" / "1.png").touch()
    assert changed(found.root, found.archives, found.stamps)
