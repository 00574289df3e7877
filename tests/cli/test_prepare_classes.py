"""How classes are told, and keep their numbers, where tenshot prepare writes images."""

import io
import json
import tarfile
from pathlib import Path

import image_sets
import pytest
import tiny
from PIL import Image

from tenshot.datamodules import ImageFolder

pytestmark = pytest.mark.usefixtures("own_cache")


def test_webdataset_classes_become_folders(tenshot: tiny.Run, tmp_path: Path):
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for name, label in (("a", "7"), ("b", "../c")):
            for ending, content in (("png", image_sets.png()), ("cls", label.encode())):
                info = tarfile.TarInfo(f"{name}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    assert tenshot("prepare", tmp_path / "in.tar", tmp_path / "out", "--image_size", "24").status == 0
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert written == {"7/a.png", "_c/b.png"}


@pytest.mark.parametrize("output", ["out", "out.zip", "out.tar"])
@pytest.mark.parametrize("told_by", ["dataset.json", "cls"])
@pytest.mark.parametrize("shard_size", [100, 5])
def test_classes_that_are_numbers_keep_their_numbers(
    tenshot: tiny.Run, tmp_path: Path, output: str, told_by: str, shard_size: int
):
    """10 after 9, though the folder 10 comes after 1; and a class keeps its number where another has no images."""
    numbers = {f"{number:02d}": number for number in range(13) if told_by == "cls" or number != 4}
    extra = {f"{name}.cls": str(number).encode() for name, number in numbers.items()}
    if told_by == "dataset.json":
        labels = [[f"{name}.png", number] for name, number in numbers.items()]
        extra = {"dataset.json": json.dumps({"labels": labels}).encode()}
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for name, content in ({f"{name}.png": solid(number) for name, number in numbers.items()} | extra).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    words = ["--image_size", "24", "--shard_size", str(shard_size), "--workers", "1"]
    for _ in range(2):  # the second finds all done
        assert tenshot("prepare", tmp_path / "in.tar", tmp_path / output, *words).status == 0
    root = tmp_path / output if (tmp_path / output).exists() else tmp_path / output.replace("out", "out-*")
    data = ImageFolder(str(root), 24, labels=True, num_workers=0)
    assert data.class_names == [str(number) for number in range(13)]
    batch = data.train_source.read(range(len(numbers)))
    found = [round(image.float().mean().item() / 10) for image in batch["image"]]
    assert found == batch["label"].tolist()
    assert sorted(found) == sorted(numbers.values())


def solid(number: int) -> bytes:
    """An image whose every value is ten times its number."""
    buffer = io.BytesIO()
    Image.new("RGB", (30, 30), (10 * number,) * 3).save(buffer, "PNG")
    return buffer.getvalue()
