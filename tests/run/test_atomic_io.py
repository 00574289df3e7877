import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tenshot.errors import InputError
from tenshot.run import AtomicCheckpointIO
from tenshot.run.atomic_io import put_in_place, removed

CONTENT = {"weights": torch.arange(100_000.0), "step": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's checkpoints, of which step 2 is there."""
    AtomicCheckpointIO().save_checkpoint({"step": 2}, tmp_path / "checkpoints" / "step=00000002.ckpt")
    return tmp_path / "checkpoints"


def save(folder: Path, step: int = 4) -> None:
    AtomicCheckpointIO().save_checkpoint(CONTENT, folder / f"step={step:08d}.ckpt")


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_what_is_written_can_be_read_without_running_code(folder: Path):
    save(folder)
    content = torch.load(folder / "step=00000004.ckpt", weights_only=True)

    assert torch.equal(content["weights"], CONTENT["weights"])
    assert names(folder) == ["step=00000002.ckpt", "step=00000004.ckpt"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_survived(folder: Path, message: str, reason: str) -> None:
    assert "\n" not in message
    assert message.startswith(f"{folder / 'step=00000004.ckpt'}: could not be written ({reason})")
    assert f"the last whole checkpoint is {folder / 'step=00000002.ckpt'}" in message
    assert message.endswith(f"resume with --ckpt_path {folder.parent}")
    assert names(folder) == ["step=00000002.ckpt"]
    assert torch.load(folder / "step=00000002.ckpt", weights_only=True) == {"step": 2}


def test_a_write_that_the_system_cuts_off_leaves_the_previous_checkpoint(folder: Path):
    with files_of_at_most(100_000), pytest.raises(InputError) as raised:
        save(folder)
    assert_survived(folder, str(raised.value), "File too large")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_previous_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(InputError) as raised:
        save(folder)
    assert_survived(folder, str(raised.value), "No space left on device")


def test_a_full_disk_at_the_first_checkpoint(tmp_path: Path):
    with files_of_at_most(100_000), pytest.raises(InputError, match="there is no earlier checkpoint"):
        save(tmp_path / "checkpoints")


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(InputError, match=r"could not be written \((File exists|Not a directory)\)"):
        save(tmp_path / "checkpoints")


def test_content_reaches_the_disk_before_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []

    def noted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            order.append(name)
            assert (folder / "step=00000004.ckpt").exists() is ("replace" in order[:-1])
            return call(*args)

        return wrapped

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    save(folder)
    assert order == ["fsync", "replace", "fsync"]  # the file, its new name, the folder


def test_other_mistakes_are_not_called_a_full_disk(folder: Path):
    with pytest.raises(Exception, match=r"pickle|lambda") as raised:
        AtomicCheckpointIO().save_checkpoint({"oops": lambda: None}, folder / "step=00000004.ckpt")
    assert not isinstance(raised.value, InputError)


def parts_in(folder: Path) -> Path:
    """What is left where a checkpoint in parts was being written."""
    folder.mkdir()
    (folder / "part=00000-of-00002.ckpt").write_text("torn")
    return folder


def test_what_a_kill_left_of_one_in_parts_is_in_nobodys_way(folder: Path):
    parts_in(folder / ".step=00000004.ckpt.partial")
    save(folder)
    assert names(folder) == ["step=00000002.ckpt", "step=00000004.ckpt"]


@pytest.mark.parametrize("before", ["file", "folder"])
@pytest.mark.parametrize("after", ["file", "folder"])
def test_a_file_or_a_folder_takes_the_place_of_either(folder: Path, before: str, after: str):
    target, partial = folder / "step=00000004.ckpt", folder / ".step=00000004.ckpt.partial"
    for path, kind, text in ((target, before, "old"), (partial, after, "new")):
        path.mkdir() if kind == "folder" else path.touch()
        (path / "part" if kind == "folder" else path).write_text(text)
    put_in_place(partial, target)

    assert names(folder) == ["step=00000002.ckpt", "step=00000004.ckpt"]
    assert (target / "part" if after == "folder" else target).read_text() == "new"
    removed(target)
    assert names(folder) == ["step=00000002.ckpt"]


def test_a_folder_that_is_deleted_loses_its_name_first(folder: Path, monkeypatch: pytest.MonkeyPatch):
    parts_in(folder / "step=00000004.ckpt")
    seen = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, **rest: seen.append(names(folder)))
    removed(folder / "step=00000004.ckpt")
    assert seen[-1] == [".step=00000004.ckpt.old", "step=00000002.ckpt"]
