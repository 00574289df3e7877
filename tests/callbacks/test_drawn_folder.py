"""A folder of samples is of one model: what counts as drawn, and what is refused."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tenshot.callbacks.drawn_by import DrawnBy
from tenshot.callbacks.drawn_folder import DrawnFolder
from tenshot.callbacks.image_writer import write_png
from tenshot.errors import InputError

PIXELS = torch.zeros(2, 2, 3, dtype=torch.uint8)


def folder(path: Path, **changes: Any) -> DrawnFolder:
    depends_on = {"seed": 0, "weights_sha256": "a", **changes}
    origin = {"checkpoint": "run/x.ckpt", "step": 4, "weights": "ema", "code": changes.get("seed", "now")}
    return DrawnFolder(path, DrawnBy(depends_on, origin), "--images.dir")


def claim(path: Path, count: int = 4, **changes: Any) -> set[int]:
    strategy = SimpleNamespace(broadcast=lambda value: value)
    return folder(path, **changes).claim(SimpleNamespace(is_global_zero=True, strategy=strategy), count)  # type: ignore[arg-type]


def draw(path: Path, *numbers: int) -> None:
    claim(path)
    for number in numbers:
        write_png(PIXELS, folder(path).file(number), folder(path).mark(number))


def test_what_is_drawn_counts_and_what_is_empty_is_drawn_again(tmp_path: Path):
    draw(tmp_path, 0, 2, 3)
    (tmp_path / "000003.png").write_bytes(b"")
    (tmp_path / "cat.png").write_bytes(b"in nobody's way")
    (tmp_path / "000009.png").write_bytes(b"beyond the count")
    assert claim(tmp_path) == {0, 2}


@pytest.mark.parametrize("kind", ["bytes", "an image without a mark", "another number", "another seed", "torn"])
def test_a_foreign_file_of_a_samples_name_is_refused_and_kept(tmp_path: Path, kind: str):
    draw(tmp_path, 0, 1)
    file = tmp_path / "000002.png"
    if kind == "bytes":
        file.write_bytes(b"somebody's own")
    elif kind == "an image without a mark":
        write_png(PIXELS, file)
    elif kind == "another number":
        shutil.copy(tmp_path / "000001.png", file)
    elif kind == "another seed":
        write_png(PIXELS, file, folder(tmp_path, seed=1).mark(2))
    else:
        draw(tmp_path, 2)
        file.write_bytes(file.read_bytes()[:-4])
    before = file.read_bytes()
    with pytest.raises(InputError, match=rf"{file}: not drawn by .* --images.dir {tmp_path}-2") as refused:
        claim(tmp_path)
    assert "\n" not in str(refused.value)
    assert file.read_bytes() == before


def test_images_without_a_record_are_nobody_knows_whose(tmp_path: Path):
    write_png(PIXELS, tmp_path / "000000.png")
    with pytest.raises(InputError, match=r"holds images \(000000.png\) but no drawn_by.json"):
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["000000.png"]


def test_a_record_is_left_as_it_is(tmp_path: Path):
    draw(tmp_path, 0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"something else \(other weights of this step\): choose another"):
        claim(tmp_path, weights_sha256="b")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_of_two_that_begin_at_once_the_second_sees_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write = DrawnFolder._write

    def late(self: DrawnFolder, history: dict[str, Any], new: bool) -> None:
        monkeypatch.setattr(DrawnFolder, "_write", write)
        claim(tmp_path, seed=5)  # the other one, between this one's look and its record
        write(self, history, new)

    monkeypatch.setattr(DrawnFolder, "_write", late)
    with pytest.raises(InputError, match="seed 5, not 0"):
        claim(tmp_path)
    assert json.loads((tmp_path / "drawn_by.json").read_text())["depends_on"]["seed"] == 5


def test_the_other_ranks_are_told_what_the_first_one_found(tmp_path: Path):
    strategy = SimpleNamespace(broadcast=lambda value: {7})
    other = SimpleNamespace(is_global_zero=False, strategy=strategy)
    assert folder(tmp_path / "none").claim(other, 9) == {7}  # type: ignore[arg-type]
    assert not (tmp_path / "none").exists()
    strategy.broadcast = lambda value: InputError("of the first")
    with pytest.raises(InputError, match="of the first"):
        folder(tmp_path).claim(other, 9)  # type: ignore[arg-type]
