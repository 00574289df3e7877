import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from tenshot.callbacks import EMA, EvaluateGenerator, StepCheckpoint
from tenshot.datamodules import FewShot, SyntheticFaces
from tenshot.lightning_modules import FolderGenerator
from tenshot.metrics import FrechetDistance, NearestLPIPS

RANDOM = ["--evaluate.features", "random", "--evaluate.reference", "20"]
"""Of the random network."""
QUICK = [*RANDOM, "--evaluate.metrics", "[frechet,pairwise_lpips]"]


def evaluate(tenshot: tiny.Run, folder: Path, *words: str | Path) -> dict[str, Any]:
    outcome = tenshot("test", *words, "--trainer.default_root_dir", folder)
    assert outcome.status == 0, outcome.err
    [path] = (folder / "evaluations").iterdir()
    result = json.loads(path.read_text())
    for name, value in result["values"].items():
        assert name in outcome.out
        assert ("undefined" if value is None else f"{value:.4g}") in outcome.out
    return result


def numbers(result: dict[str, Any]) -> dict[str, float]:
    """Its values, undefined ones as NaN."""
    return {name: math.nan if value is None else value for name, value in result["values"].items()}


def images_in(folder: Path) -> torch.Tensor:
    return torch.stack([pil_to_tensor(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_the_numbers_are_those_of_the_images_that_predict_writes(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    faces = ["--data", "SyntheticFaces", "--data.image_size", "16", "--data.shots", "5", "--data.num_val", "0"]
    faces += ["--data.num_images", "12"]
    words = ["--config", trained / "config.yaml", "--ckpt_path", trained, *faces, *RANDOM, "--evaluate.seed", "3"]
    words += ["--evaluate.intra_lpips", "first100"]
    result = evaluate(tenshot, tmp_path, *words, "--evaluate.samples", "9", "--evaluate.save", tmp_path / "saved")

    drawn = tmp_path / "drawn"
    options = ["--images.dir", drawn, "--images.count", "9", "--images.seed", "3"]
    assert tenshot("predict", "--ckpt_path", trained, *options).status == 0
    assert torch.equal(images_in(tmp_path / "saved"), images_in(drawn))

    data = SyntheticFaces(image_size=16, num_images=12, shots=5, num_val=0)
    shots = data.train_source.read(range(5))["image"]
    reference = data.reference(20).read(range(20))["image"]
    frechet, nearest = FrechetDistance("random"), NearestLPIPS("random")
    for metric, real in ((frechet, reference), (nearest, shots)):
        metric.update(images_in(drawn))
        metric.update(real, real=True)
        for name, value in metric.report().values.items():
            assert result["values"][name] == pytest.approx(value, rel=1e-6), name
    assert result["samples"] == 9
    assert result["step"] == 4
    assert result["metrics"]["frechet"]["settings"]["n_real"] == 20
    assert result["metrics"]["intra_lpips"]["settings"]["n_real"] == 5
    assert result["metrics"]["intra_lpips"]["settings"].items() >= {"cap": 100, "subset": "first"}.items()
    assert result["sampler"]["steps"] == "ddim2"
    assert "fid" not in result["values"]
    assert "intra_lpips" not in result["values"]

    again = evaluate(tenshot, tmp_path / "batches", *words, "--evaluate.samples", "9", "--evaluate.batch_size", "4")
    assert numbers(again) == pytest.approx(numbers(result), rel=1e-6, nan_ok=True)
    folder = ["--model", "FolderGenerator", "--model.root", drawn, *faces, *RANDOM, "--evaluate.samples", "9"]
    of_files = evaluate(tenshot, tmp_path / "files", *folder)
    assert numbers(of_files) == pytest.approx(numbers(result), rel=1e-6, nan_ok=True)
    assert of_files["title"] == "drawn"


def test_what_the_data_do_not_allow_is_named(tenshot: tiny.Run, trained: Path, shots: Path, tmp_path: Path):
    words: list[str | Path] = ["--config", trained / "config.yaml", "--ckpt_path", trained, *RANDOM]
    words += ["--trainer.default_root_dir", tmp_path, "--evaluate.samples", "4"]
    faces = ["--data", "SyntheticFaces", "--data.image_size", "16"]
    many = tenshot("test", *words, *faces, "--data.num_images", "1001", "--evaluate.metrics", "[pairwise_lpips]")
    assert many.status == 0, many.err
    assert many.out.count("dist_random") == 1

    few = ["--data", "FewShot", "--data.root", shots]
    outcome = tenshot("test", *words, *few)
    assert outcome.status == 0, outcome.err
    left_out = "frechet, kernel, precision_recall, density_coverage, data_copying, near_copies"
    assert f"not computed: {left_out}, for want of images of the domain" in outcome.log
    assert "fd_random" not in outcome.out
    named = tenshot("test", *words, *few, "--evaluate.metrics", "[kernel]")
    assert "--evaluate.metrics kernel needs images of the domain" in named.complaint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--evaluate.inception_weights", "none.pth", "--evaluate.metrics", "[frechet]"], "none.pth: no such file"),
        (["--evaluate.metrics", "[fid]"], "evaluate.metrics"),
        (["--evaluate.samples", "1"], "--evaluate.samples is 1: choose at least 2"),
        (["--evaluate.keep_best", "fid"], "keep_best needs evaluations during fit"),
        (["--evaluate.patience", "2"], "patience needs a value that is to become better"),
    ],
)
def test_mistakes_show_before_anything_is_drawn(
    tenshot: tiny.Run, trained: Path, tmp_path: Path, options: list[str], message: str
):
    outcome = tenshot("test", "--ckpt_path", trained, "--trainer.default_root_dir", tmp_path, *options)
    assert message in outcome.complaint
    assert not (tmp_path / "evaluations").exists()


def test_a_folder_is_checked(tenshot: tiny.Run, shots: Path, tmp_path: Path):
    words = ["--data", "FewShot", "--data.root", shots, "--data.image_size", "16", *RANDOM]
    words += ["--trainer.default_root_dir", tmp_path]
    folder = ["test", "--model", "FolderGenerator", "--model.root"]
    assert "holds 5 images: set --evaluate.samples" in tenshot(*folder, shots, *words).complaint
    for name, width in (("square", 16), ("wide", 20)):
        Image.fromarray(np.zeros((16, width, 3), np.uint8)).save(tmp_path / f"{name}.png")
    outcome = tenshot(*folder, tmp_path, *words, "--evaluate.samples", "2")
    assert "wide.png" in outcome.complaint


def test_images_of_a_folder_are_where_the_module_is(shots: Path):
    """Where they are is where the networks of metrics work."""
    assert FolderGenerator(str(shots)).to("meta").sample(torch.arange(2)).device.type == "meta"


# During fit


def fit(folder: Path, shots: Path, evaluation: EvaluateGenerator | None, steps: int = 4) -> dict:
    module = tiny.ddpm(unet=tiny.unet_config(dropout=0.3))
    callbacks: list[Any] = [StepCheckpoint(every_n_steps=2, keep=9), *filter(None, [evaluation])]
    trainer = tiny.trainer(folder, steps, *callbacks, ema=EMA(0.5))
    data = FewShot(str(shots), image_size=16, batch_size=2)
    trainer.fit(tiny.randomised(module), data)
    return module.state_dict()


def during_fit(**options: Any) -> EvaluateGenerator:
    return EvaluateGenerator(["pairwise_lpips"], "random", every_n_steps=2, fit_samples=3, **options)


def test_evaluations_do_not_disturb_training_and_are_of_the_average(tmp_path: Path, shots: Path):
    tiny.assert_same(fit(tmp_path / "with", shots, during_fit()), fit(tmp_path / "without", shots, None))
    files = sorted(path.name for path in (tmp_path / "with" / "evaluations").iterdir())
    assert files == ["step=00000002.json", "step=00000004.json"]
    result = json.loads((tmp_path / "with" / "evaluations" / files[1]).read_text())
    assert result["samples"] == 3
    assert result["weights"].startswith("weights: average over 4 updates")
