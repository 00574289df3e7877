"""PITI's two stages on the command line: small images of conditions, enlarged by the same conditions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_piti
import torch
from PIL import Image
from tiny_stages import saved
from tiny_upsampler import upsampler

from tenshot.callbacks.image_writer import to_uint8
from tenshot.datamodules.condition_files import condition_files
from tenshot.datamodules.pixels import from_pixels
from tenshot.lightning_modules import PITIUpsampler, Sampler

DATA = ["--data", "SyntheticFaces", "--data.pairs", "mask", "--data.num_val", "4", "--data.num_images", "12"]
QUICK = ["--model.sampler.method", "ddim", "--model.sampler.steps", "ddim2"]


@pytest.fixture(scope="module")
def upsample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an upsampler, 8 to 16 px."""
    return Path(saved(tmp_path_factory.mktemp("files"), tiny.randomised(upsampler())))


def module_of(file: Path) -> PITIUpsampler:
    sampler = Sampler("ddim", "ddim2", temperature=0.997)  # which is the method's own
    module = PITIUpsampler(init_from=str(file), sampler=sampler)
    module.configure_model()
    return module


def small_images(folder: Path, *names: str) -> torch.Tensor:
    """(N, 3, 8, 8) in [-1, 1], written by these names."""
    pixels = torch.randint(256, (len(names), 8, 8, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    for name, image in zip(names, pixels, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(folder / name)
    return from_pixels(pixels.permute(0, 3, 1, 2))


def read(folder: Path) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in sorted(folder.glob("*.png"))])


def command(file: Path, images: Path, *more: Any) -> list[Any]:
    return ["predict", "--ckpt_path", file, *QUICK, *DATA, "--images.dir", images, *more]


def test_small_images_are_enlarged_by_the_conditions_of_the_data(tenshot: tiny.Run, upsample: Path, tmp_path: Path):
    """Image i by that of pair i, from which a base has drawn the i-th."""
    small = small_images(tmp_path / "small", "000000.png", "000001.png", "000002.png")
    words = command(upsample, tmp_path / "large", "--images.low_res", tmp_path / "small")
    outcome = tenshot(*words, "--images.batch_size", "2")
    assert outcome.status == 0, outcome.err
    data = tiny.faces(num_val=4, pairs="mask", condition_size=32)
    assert data.val_source is not None
    masks = data.val_source.read([0, 1, 2])["condition_image"]
    given = {"low_res": small, "condition_image": masks}
    assert (read(tmp_path / "large") == to_uint8(module_of(upsample).sample(torch.arange(3), given))).all()
    told = json.loads((tmp_path / "large/drawn_by.json").read_text())["depends_on"]
    assert {"low_res_sha256", "condition_image_of"} <= told.keys()
    assert told["sampler"]["temperature"] == 0.997

    Image.new("RGB", (8, 8)).save(tmp_path / "small/000001.png")
    assert "holds samples of something else (low_res_sha256" in tenshot(*words).complaint


def test_small_images_are_enlarged_by_the_conditions_of_their_name(tenshot: tiny.Run, upsample: Path, tmp_path: Path):
    """In whatever order both are listed: a.png comes before a0.png, and a_0.png after a0_0.png."""
    faces = tiny.faces(image_size=32, condition="mask").train_source.read(range(3))["mask"].byte()
    (tmp_path / "masks").mkdir()
    for name, mask in zip(("a", "a0"), faces, strict=False):
        Image.fromarray(mask.numpy()).save(tmp_path / "masks" / f"{name}.png")
    small = small_images(tmp_path / "small", "a_0.png", "a_1.png", "a0_0.png", "a0_1.png", "other.png")[:4]
    conditions = ["--images.conditions", tmp_path / "masks", "--images.per_condition", "2"]
    words = command(upsample, tmp_path / "large", *conditions, "--images.low_res", tmp_path / "small")
    outcome = tenshot(*words)
    assert outcome.status == 0, outcome.err
    files = condition_files(tiny_piti.pairs(), str(tmp_path / "masks"), "")
    given = {"low_res": small, "condition_image": files.read([0, 0, 1, 1])}
    expected = to_uint8(module_of(upsample).sample(files.numbers(2), given))
    assert (read(tmp_path / "large")[[2, 3, 0, 1]] == expected).all()

    small_images(tmp_path / "small", "a0_1.png")
    assert "a0_1.png: not drawn by this model and settings from condition and small image" in tenshot(*words).complaint
    (tmp_path / "small/a_1.png").unlink()
    assert "small has no a_1.png (1 of 4 are missing)" in tenshot(*words).complaint


def test_what_is_missing_or_does_not_fit_is_one_line(tenshot: tiny.Run, upsample: Path, tmp_path: Path):
    words = command(upsample, tmp_path / "images")
    assert "PITIUpsampler enlarges images: give a folder of them with --images.low_res" in tenshot(*words).complaint
    Image.new("RGB", (16, 16)).save(tmp_path / "0.png")
    assert "16 x 16: the stage enlarges 8 x 8" in tenshot(*words, "--images.low_res", tmp_path).complaint
    assert not (tmp_path / "images").exists()


def test_it_is_measured_on_small_versions_of_the_images_of_the_data(tenshot: tiny.Run, upsample: Path, tmp_path: Path):
    words = ["test", "--ckpt_path", upsample, *QUICK, *DATA]
    words += ["--evaluate.features", "random", "--evaluate.metrics", "[consistency]", "--evaluate.samples", "3"]
    outcome = tenshot(*words, "--evaluate.save", tmp_path / "saved", "--trainer.default_root_dir", tmp_path)
    assert outcome.status == 0, outcome.err
    assert "consistency" in outcome.out
    assert len(read(tmp_path / "saved")) == 3
