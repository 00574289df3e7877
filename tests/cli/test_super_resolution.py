"""A stage from the command line: trained, measured on true low-resolution images, and a folder enlarged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from tenshot.callbacks.image_writer import to_uint8
from tenshot.datamodules import SyntheticFaces
from tenshot.diffusion import downsample
from tenshot.lightning_modules import SuperResolution

STAGE: dict[str, Any] = {
    "model": {
        "class_path": "SuperResolution",
        "init_args": {
            "low_res_size": 8,
            "augmentation": {"noise": {"num_steps": 100, "s_max": 60}, "blur": {"prob": 0.25}},
            "preview_sampler": {"method": "ddim", "steps": "ddim2"},
        },
    },
    "data": {"init_args": {"num_val": 3}},
    "trainer": {"log_every_n_steps": 1},
    "grid": {"every_n_steps": 1, "count": 2, "columns": 2},
}
SAMPLER = {"sampler": tiny.QUICK, "preview_sampler": tiny.QUICK}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tenshot.cli import main

    folder = tmp_path_factory.mktemp("stage")
    main(["fit", "--config", tiny.config_file(folder, STAGE), "--trainer.default_root_dir", str(folder / "run")])
    return folder / "run"


def drawn(run: Path, z: torch.Tensor, seed: int = 0, **arguments: Any) -> np.ndarray:
    """By the method alone."""
    module = SuperResolution(init_from=str(run), **SAMPLER, **arguments)
    module.configure_model()
    return to_uint8(module.sample(torch.arange(len(z)) + (seed << 32), {"low_res": z})).numpy()


def test_what_is_trained_is_recorded_and_watched(fitted: Path):
    words = torch.load(fitted / "checkpoints" / "step=00000002.ckpt", weights_only=True)["tenshot"]
    assert words["method"] == "SuperResolution"
    assert words["unet"]["low_res_channels"] == 3
    noise = {"num_steps": 100, "schedule": "cosine", "s_min": 1, "s_max": 60}
    blur = {"sigma_min": 0.4, "sigma_max": 0.6, "prob": 0.25}
    expected = {"low_res_size": 8, "downsample": "area", "augmentation": {"noise": noise, "blur": blur}}
    assert words["stage"] == expected
    grid = np.asarray(Image.open(fitted / "samples" / "step=00000002.png"))
    assert grid.shape == (2 * 18 + 2, 2 * 18 + 2, 3)
    data = SyntheticFaces(image_size=16, num_images=12, num_val=3)
    x = data.val_source.read([0, 1])["image"] / 127.5 - 1  # type: ignore[union-attr]
    above = to_uint8(
        downsample(x, 8).repeat_interleave(2, 2).repeat_interleave(2, 3)
    ).numpy()  # what they are drawn from
    assert np.array_equal(grid[2:18, 2:18], above[0])
    assert np.array_equal(grid[2:18, 20:36], above[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "small").mkdir()
    for name in ("b.png", "a.png", "c.png"):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "small" / name)
    return tmp_path / "small"


def test_predict_enlarges_every_image_of_a_folder(tenshot: tiny.Run, fitted: Path, folder: Path, tmp_path: Path):
    words = [
        "predict",
        "--ckpt_path",
        str(fitted),
        "--images.dir",
        str(tmp_path / "large"),
        "--images.low_res",
        str(folder),
    ]
    words += ["--model.augmentation_s", "20", "--images.batch_size", "2"]
    assert tenshot(*words).status == 0
    files = sorted((tmp_path / "large").glob("*.png"))
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    small = np.stack([np.asarray(Image.open(folder / name)) for name in ("a.png", "b.png", "c.png")])
    z = torch.from_numpy(small).permute(0, 3, 1, 2) / 127.5 - 1
    images = np.stack([np.asarray(Image.open(file)) for file in files])
    assert np.array_equal(images, drawn(fitted, z, augmentation_s=20))
    assert not np.array_equal(images, drawn(fitted, z))
    outcome = tenshot(*words, "--images.count", "5")
    assert "--images.count is 5, but there are images to draw from for 3" in outcome.err + outcome.log
    assert sorted((tmp_path / "large").glob("*.png")) == files

    Image.fromarray(small[0]).save(folder / "c.png")  # another image: its enlargement must not be taken for this one's
    tiny.assert_one_line(tenshot(*words), 1, "samples of something else.*low_res_sha256")


def test_test_enlarges_the_small_versions_of_images_that_were_not_trained_on(
    tenshot: tiny.Run, fitted: Path, tmp_path: Path
):
    save = tmp_path / "samples"
    words = ["--evaluate.features", "random", "--evaluate.metrics", "[pairwise_lpips, consistency]"]
    words += ["--evaluate.samples", "4"]
    outcome = tenshot("test", "--ckpt_path", str(fitted), *words, "--evaluate.save", str(save))
    assert outcome.status == 0, outcome.err
    data = SyntheticFaces(image_size=16, num_images=12, num_val=3)
    x = data.val_source.read([0, 1, 2, 0])["image"] / 127.5 - 1  # type: ignore[union-attr]
    images = np.stack([np.asarray(Image.open(file)) for file in sorted(save.glob("*.png"))])
    assert np.array_equal(images, drawn(fitted, downsample(x, 8)))
    assert json.loads((save / "drawn_by.json").read_text())["depends_on"]["low_res_of"] == "3 drawn faces"

    values = json.loads((fitted / "evaluations" / "step=00000002.json").read_text())["values"]
    true = np.moveaxis(x.numpy(), 1, -1)
    small, z = (pixels.reshape(4, 8, 2, 8, 2, 3).mean(axis=(2, 4)) for pixels in (images / 127.5 - 1, true))
    assert values["consistency_rmse"] == pytest.approx(np.sqrt(np.square(small - z).mean()), rel=1e-4)
    assert values["consistency_psnr"] == pytest.approx(-20 * np.log10(values["consistency_rmse"] / 2), rel=1e-6)


@pytest.mark.parametrize(
    ("mode", "size", "message"),
    [
        ("RGB", (8, 12), r"d\.png is 8 x 12, which is not square: the stage enlarges 8 x 8"),
        ("RGB", (16, 16), r"d\.png is 16 x 16: the stage enlarges 8 x 8"),
        ("L", (8, 8), r"d\.png is in colour mode L, not RGB without transparency"),
        ("RGBA", (8, 8), r"d\.png is in colour mode RGBA, not RGB without transparency"),
    ],
)
def test_a_folder_of_other_images_is_refused(
    tenshot: tiny.Run, fitted: Path, folder: Path, tmp_path: Path, mode: str, size: tuple[int, int], message: str
):
    Image.new(mode, size).save(folder / "d.png")
    words = ["--ckpt_path", str(fitted), "--images.dir", str(tmp_path / "large"), "--images.low_res", str(folder)]
    tiny.assert_one_line(tenshot("predict", *words), 1, message)
    assert not (tmp_path / "large").exists()


def test_predict_says_what_it_needs(tenshot: tiny.Run, fitted: Path, folder: Path, trained: Path, tmp_path: Path):
    to = ["--images.dir", str(tmp_path / "large")]
    outcome = tenshot("predict", "--ckpt_path", str(fitted), *to)
    tiny.assert_one_line(outcome, 1, "SuperResolution enlarges images: give a folder of them with --images.low_res")
    outcome = tenshot("predict", "--ckpt_path", str(trained), *to, "--images.low_res", str(folder))
    tiny.assert_one_line(outcome, 1, r"--images\.low_res gives images to enlarge, which DDPM does not")


def test_weights_of_a_stage_bring_its_method(tenshot: tiny.Run, fitted: Path, folder: Path, tmp_path: Path):
    """Converted, with no configuration: the method, the size and the range of s are in the file."""
    file = tmp_path / "stage.safetensors"
    assert tenshot("convert", str(fitted), str(file)).status == 0
    assert "class_path: SuperResolution" in file.with_suffix(".yaml").read_text()
    words = ["--images.dir", str(tmp_path / "large"), "--images.low_res", str(folder), "--images.count", "1"]
    words += ["--model.sampler.method", "ddim", "--model.sampler.steps", "ddim2"]
    outcome = tenshot("predict", "--ckpt_path", str(file), *words)
    assert outcome.status == 0, outcome.err
    assert len(list((tmp_path / "large").glob("*.png"))) == 1
    outcome = tenshot("predict", "--ckpt_path", str(file), *words, "--model.augmentation_s", "61")
    tiny.assert_one_line(outcome, 1, r"--model\.augmentation_s is 61, .*s = 1 .* to s = 60 \(noise std 0\.8")


def test_augmentation_of_a_stage_is_kept_where_it_is_resumed(tenshot: tiny.Run, fitted: Path, tmp_path: Path):
    """From weights: the run's own configuration does not tell the size, its checkpoint does."""
    run = ["--trainer.default_root_dir", str(tmp_path / "run")]
    model = {
        "model": {"init_args": {"unet": None, "low_res_size": None, "augmentation": None, "init_from": str(fitted)}}
    }
    config = tiny.config_file(tmp_path, STAGE, model, {"grid": {"every_n_steps": 0}})
    assert tenshot("fit", "--config", config, *run, "--trainer.max_steps", "1").status == 0
    outcome = tenshot("fit", "--ckpt_path", "last", *run, "--trainer.max_steps", "2")
    assert outcome.status == 0, outcome.err
    words = torch.load(tmp_path / "run" / "checkpoints" / "step=00000002.ckpt", weights_only=True)["tenshot"]
    assert words["stage"]["augmentation"]["noise"]["s_max"] == 60
    assert words["stage"]["low_res_size"] == 8
