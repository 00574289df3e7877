import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tenshot.callbacks import ImageWriter
from tenshot.callbacks.drawn_by import DrawnBy
from tenshot.callbacks.drawn_folder import DrawnFolder
from tenshot.callbacks.image_writer import to_uint8, write_png
from tenshot.errors import InputError


def test_pixels_are_rounded_so_that_a_file_holds_what_the_metrics_see():
    x = torch.linspace(-1.2, 1.2, 999).view(1, 1, 27, 37)
    expected = np.rint((x.double().numpy().clip(-1, 1) + 1) * 127.5)

    difference = to_uint8(x)[0, ..., 0].numpy() - expected[0, 0]
    assert np.abs(difference).max() <= 1  # float32 against float64 at the very edge of a level
    assert (difference != 0).mean() < 0.01
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8((levels.float() / 127.5 - 1).view(256, 1, 1, 1)).flatten(), levels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_reads_back_as_it_was(tmp_path: Path, channels: int):
    pixels = torch.randint(256, (5, 7, channels), dtype=torch.uint8)
    write_png(pixels, tmp_path / "new" / "1.png")

    read = np.asarray(Image.open(tmp_path / "new" / "1.png"))
    assert (read.reshape(5, 7, channels) == pixels.numpy()).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["1.png"]


def test_a_write_that_fails_is_one_line_and_leaves_the_old_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "1.png"
    write_png(torch.zeros(2, 2, 3, dtype=torch.uint8), path)
    before = path.read_bytes()

    def save(self: Image.Image, file: Path, **options: object) -> None:
        Path(file).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(InputError, match=r"1\.png: could not be written \(No space left on device\)"):
        write_png(torch.ones(2, 2, 3, dtype=torch.uint8), path)
    assert path.read_bytes() == before


def test_by_default_images_go_to_the_folder_of_the_run():
    trainer = SimpleNamespace(default_root_dir="some/run")
    assert ImageWriter().folder(trainer) == Path("some/run/images")  # type: ignore[arg-type]


def test_a_batch_is_written_under_its_numbers_and_each_says_which_it_is(tmp_path: Path):
    outputs = {"index": torch.tensor([7, 2]), "image": torch.stack([torch.ones(3, 2, 2), -torch.ones(3, 2, 2)])}
    writer = ImageWriter(str(tmp_path))
    writer._folder = DrawnFolder(tmp_path, DrawnBy({"seed": 0}, {}), "--images.dir")
    writer.on_predict_batch_end(None, None, outputs, None, 0)  # type: ignore[arg-type]

    assert (np.asarray(Image.open(tmp_path / "000007.png")) == 255).all()
    assert (np.asarray(Image.open(tmp_path / "000002.png")) == 0).all()
    digest = hashlib.sha256(b'{"seed": 0}').hexdigest()[:16]
    assert Image.open(tmp_path / "000007.png").info == {"tenshot": f"{digest} 7"}
