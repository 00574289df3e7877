"""A cascade from the command line: drawn, measured, its parts compared with those that drew before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from stages import NOISY, saved, stage

from tenshot.callbacks.image_writer import to_uint8
from tenshot.diffusion import DiffusionConfig
from tenshot.lightning_modules import Cascade, CascadeStage


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """``base``, 8 px, and ``stage``, 16 px."""
    small = tiny.unet_config(image_size=8, attention_resolutions=(4,))
    for name, module in (
        ("base", tiny.ddpm(unet=small, diffusion=DiffusionConfig(100, "cosine"))),
        ("stage", stage(augmentation=NOISY)),
    ):
        (tmp_path / name).mkdir()
        saved(tmp_path / name, tiny.randomised(module, len(name)))
    return tmp_path


def words(parts: Path, s: int = 20) -> list[str]:
    sampler = {"method": "ddim", "steps": "ddim2"}
    stages = [{"checkpoint": str(parts / "stage" / "saved.ckpt"), "augmentation_s": s, "sampler": sampler}]
    model = ["--model", "Cascade", "--model.base", str(parts / "base" / "saved.ckpt")]
    model += ["--model.base_sampler.method", "ddim", "--model.base_sampler.steps", "ddim2"]
    trainer = ["--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(parts / "run")]
    return [*model, "--model.stages", json.dumps(stages), *trainer]


def test_predict_draws_what_is_missing_and_refuses_another_base(tenshot: tiny.Run, parts: Path):
    outcome = tenshot("predict", *words(parts), "--images.count", "3", "--images.batch_size", "2")
    assert outcome.status == 0, outcome.err
    assert "cascade: 8 px -> 16 px, s = 20 (noise std 0.3" in outcome.err + outcome.log + outcome.out
    module = Cascade(
        str(parts / "base" / "saved.ckpt"), [CascadeStage(str(parts / "stage" / "saved.ckpt"), 20, sampler=tiny.QUICK)],
        base_sampler=tiny.QUICK,
    )  # fmt: skip
    module.configure_model()
    expected = to_uint8(module.sample(torch.arange(3))).numpy()
    files = sorted((parts / "run" / "images").glob("*.png"))
    assert np.array_equal(np.stack([np.asarray(Image.open(file)) for file in files]), expected)

    files[1].unlink()
    times = [files[0].stat().st_mtime_ns, files[2].stat().st_mtime_ns]
    assert tenshot("predict", *words(parts), "--images.count", "3").status == 0
    assert np.array_equal(np.asarray(Image.open(files[1])), expected[1])
    assert [files[0].stat().st_mtime_ns, files[2].stat().st_mtime_ns] == times

    outcome = tenshot("predict", *words(parts, s=21), "--images.count", "3")
    tiny.assert_one_line(outcome, 1, r"stages\[0\]\.drawn_s 20, not 21")
    before = module.generators[0].unet.state_dict()  # type: ignore[union-attr]
    shutil.rmtree(parts / "base")
    (parts / "base").mkdir()
    other = tiny.randomised(tiny.ddpm(unet=module.generators[0].unet.config, diffusion=DiffusionConfig(100, "cosine")))  # type: ignore[union-attr]
    assert not torch.equal(other.unet.conv.weight, before["conv.weight"])
    saved(parts / "base", other)
    outcome = tenshot("predict", *words(parts), "--images.count", "3")
    tiny.assert_one_line(outcome, 1, r"base\.weights_sha256 '[0-9a-f]{64}', not '[0-9a-f]{64}'")


def test_test_measures_it_at_the_size_of_its_last_stage(tenshot: tiny.Run, parts: Path):
    data = ["--data", "SyntheticFaces", "--data.num_images", "3", "--data.num_val", "3"]
    metrics = ["--evaluate.features", "random", "--evaluate.metrics", "[pairwise_lpips]", "--evaluate.samples", "2"]
    outcome = tenshot("test", *words(parts), *data, *metrics)
    assert outcome.status == 0, outcome.err
    [file] = (parts / "run" / "evaluations").glob("*.json")
    result = json.loads(file.read_text())
    assert (result["method"], result["drawn_by"]["image_size"]) == ("Cascade", 16)


def test_it_takes_no_checkpoint_and_is_not_trained(tenshot: tiny.Run, parts: Path):
    given = ["--ckpt_path", str(parts / "base" / "saved.ckpt")]
    tiny.assert_one_line(tenshot("predict", *words(parts), *given), 1, "--ckpt_path .*saved.ckpt: Cascade draws from")
    data = ["--data", "SyntheticFaces", "--data.image_size", "16"]
    tiny.assert_one_line(tenshot("fit", *words(parts), *data), 1, "Cascade is not trained: .*tenshot predict")
