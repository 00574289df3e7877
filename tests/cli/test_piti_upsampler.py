"""PITI's two stages on the command line: small images of conditions, enlarged by the same conditions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny_piti import TINY, piti
from tiny_stages import saved
from tiny_upsampler import upsampler

from tenshot.callbacks.image_writer import to_uint8
from tenshot.datamodules.pixels import from_pixels
from tenshot.lightning_modules import PITIUpsampler, Sampler

DATA = ["--data", "SyntheticFaces", "--data.pairs", "mask", "--data.num_val", "4", "--data.num_images", "12"]
QUICK = ["--model.sampler.method", "ddim", "--model.sampler.steps", "ddim2"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, 8 px, and ``upsampler``, 8 to 16 px."""
    folder = tmp_path_factory.mktemp("files")
    small: dict[str, Any] = vars(TINY) | {"image_size": 8}
    for name, module in (("base", piti(piti=type(TINY)(**small))), ("upsampler", upsampler())):
        (folder / name).mkdir()
        saved(folder / name, tiny.randomised(module))
    return folder


def read(folder: Path) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.asarray(Image.open(path))) for path in sorted(folder.glob("*.png"))])


def command(files: Path, name: str, images: Path) -> list[Any]:
    return ["predict", "--ckpt_path", files / name / "saved.ckpt", *QUICK, *DATA, "--images.dir", images]


def test_images_of_the_base_are_enlarged_by_the_conditions_that_they_were_drawn_from(
    tenshot: tiny.Run, files: Path, tmp_path: Path
):
    outcome = tenshot(*command(files, "base", tmp_path / "small"), "--images.count", "3")
    assert outcome.status == 0, outcome.err
    words = command(files, "upsampler", tmp_path / "large")
    outcome = tenshot(*words, "--images.low_res", tmp_path / "small", "--images.batch_size", "2")
    assert outcome.status == 0, outcome.err

    sampler = Sampler("ddim", "ddim2", temperature=0.997)  # which is the method's own
    module = PITIUpsampler(init_from=str(files / "upsampler/saved.ckpt"), sampler=sampler)
    module.configure_model()
    data = tiny.faces(num_val=4, pairs="mask", condition_size=32)
    assert data.val_source is not None
    masks = data.val_source.read([0, 1, 2])["condition_image"]
    small = from_pixels(read(tmp_path / "small").permute(0, 3, 1, 2))
    expected = to_uint8(module.sample(torch.arange(3), {"low_res": small, "condition_image": masks}))
    assert (read(tmp_path / "large") == expected).all()
    before, told = (json.loads((tmp_path / n / "drawn_by.json").read_text())["depends_on"] for n in ("small", "large"))
    assert {"low_res_sha256", "condition_image_of"} <= told.keys()
    assert told["sampler"]["temperature"] == 0.997
    assert "temperature" not in before["sampler"]  # as folders of earlier versions record it

    Image.new("RGB", (8, 8)).save(tmp_path / "small/000001.png")
    complaint = tenshot(*words, "--images.low_res", tmp_path / "small").complaint
    assert "holds samples of something else (low_res_sha256" in complaint


def test_what_is_missing_or_does_not_fit_is_one_line(tenshot: tiny.Run, files: Path, tmp_path: Path):
    words = command(files, "upsampler", tmp_path / "images")
    assert "PITIUpsampler enlarges images: give a folder of them with --images.low_res" in tenshot(*words).complaint
    Image.new("RGB", (16, 16)).save(tmp_path / "0.png")
    assert "16 x 16: the stage enlarges 8 x 8" in tenshot(*words, "--images.low_res", tmp_path).complaint
    assert not (tmp_path / "images").exists()


def test_it_is_measured_on_small_versions_of_the_images_of_the_data(tenshot: tiny.Run, files: Path, tmp_path: Path):
    words = ["test", "--ckpt_path", files / "upsampler/saved.ckpt", *QUICK, *DATA]
    words += ["--evaluate.features", "random", "--evaluate.metrics", "[consistency]", "--evaluate.samples", "3"]
    outcome = tenshot(*words, "--evaluate.save", tmp_path / "saved", "--trainer.default_root_dir", tmp_path)
    assert outcome.status == 0, outcome.err
    assert "consistency" in outcome.out
    assert len(read(tmp_path / "saved")) == 3
