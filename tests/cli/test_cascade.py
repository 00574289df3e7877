"""A cascade from the command line: drawn, measured, its parts compared with those that drew before."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_stages import NOISY, saved, stage
from torch.nn import functional as F

from tenshot.callbacks.image_writer import to_uint8
from tenshot.callbacks.true_conditions import refuse_true_conditions
from tenshot.datamodules.conditions import Conditions
from tenshot.datamodules.pixels import from_pixels, to_pixels
from tenshot.diffusion import DiffusionConfig
from tenshot.lightning_modules import DDPM, Cascade, CascadeStage
from tenshot.lightning_modules.cascade import stage_seeds
from tenshot.metrics import FrechetDistance


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


def cascade(parts: Path, s: int = 20) -> Cascade:
    """By the method alone."""
    stages = [CascadeStage(str(parts / "stage" / "saved.ckpt"), s, sampler=tiny.QUICK)]
    module = Cascade(str(parts / "base" / "saved.ckpt"), stages, base_sampler=tiny.QUICK)
    module.configure_model()
    return module


def images_in(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))])


def with_another_base(parts: Path) -> None:
    config = cascade(parts).generators[0].unet.config  # type: ignore[union-attr]
    saved(parts / "base", tiny.randomised(tiny.ddpm(unet=config, diffusion=DiffusionConfig(100, "cosine")), 9))


def test_predict_draws_what_is_missing_and_refuses_another_base(tenshot: tiny.Run, parts: Path):
    outcome = tenshot("predict", *words(parts), "--images.count", "3", "--images.batch_size", "2")
    assert outcome.status == 0, outcome.err
    assert "cascade: 8 px -> 16 px, s = 20 (noise std 0.3" in outcome.err + outcome.log + outcome.out
    expected = to_uint8(cascade(parts).sample(torch.arange(3))).numpy()
    images = parts / "run" / "images"
    assert np.array_equal(images_in(images), expected)

    (images / "000001.png").unlink()
    times = [(images / name).stat().st_mtime_ns for name in ("000000.png", "000002.png")]
    assert tenshot("predict", *words(parts), "--images.count", "3").status == 0
    assert np.array_equal(images_in(images), expected)
    assert [(images / name).stat().st_mtime_ns for name in ("000000.png", "000002.png")] == times

    outcome = tenshot("predict", *words(parts, s=21), "--images.count", "3")
    tiny.assert_one_line(outcome, 1, r"stages\[0\]\.drawn_s 20, not 21")
    with_another_base(parts)
    outcome = tenshot("predict", *words(parts), "--images.count", "3")
    tiny.assert_one_line(outcome, 1, r"base\.weights_sha256 '[0-9a-f]{64}', not '[0-9a-f]{64}'")


def test_what_the_base_has_drawn_is_kept_as_it_is_and_used_again(tenshot: tiny.Run, parts: Path):
    keep = ["--images.count", "3", "--images.keep_stages", str(parts / "kept"), "--images.dir"]
    assert tenshot("predict", *words(parts), *keep, str(parts / "one")).status == 0
    module, seeds = cascade(parts, s=30), torch.arange(3)
    z = module.generators[0].sample(seeds)
    files = sorted((parts / "kept" / "base").glob("*.safetensors"))
    assert torch.equal(torch.stack([load_file(file)["image"] for file in files]), z)

    with safe_open(files[1], "pt") as opened:
        mark = opened.metadata()
    z[1] = 0.25  # which the base never drew
    save_file({"image": z[1]}, files[1], mark)
    outcome = tenshot("predict", *words(parts, s=30), *keep, str(parts / "two"))
    assert outcome.status == 0, outcome.err
    expected = to_uint8(module.generators[1].sample(stage_seeds(seeds, 1), {"low_res": z})).numpy()
    assert np.array_equal(images_in(parts / "two"), expected)

    with_another_base(parts)
    outcome = tenshot("predict", *words(parts), *keep, str(parts / "three"))
    tiny.assert_one_line(outcome, 1, r"base\.weights_sha256 '[0-9a-f]{64}', not .*--images.keep_stages \S*kept-2")
    assert not (parts / "three").exists()


OF_S = "--search.over.model.stages[0].augmentation_s"


def measured(parts: Path, command: str, *options: str) -> list[str]:
    data = [
        "--data",
        "SyntheticFaces",
        "--data.image_size",
        "16",
        "--data.num_images",
        "3",
        "--evaluate.reference",
        "4",
    ]
    metrics = ["--evaluate.features", "random", "--evaluate.metrics", "[frechet]", "--evaluate.samples", "3"]
    return [command, *words(parts), *data, *metrics, "--evaluate.true_conditions", "true", *options]


def test_search_draws_the_base_once_for_all_values_of_s_and_measures_as_test_does(
    tenshot: tiny.Run, parts: Path, monkeypatch: pytest.MonkeyPatch
):
    drawn: list[tuple[int, int]] = []
    plain = DDPM.sample

    def noted(self: DDPM, seeds: torch.Tensor, *rest: Any) -> torch.Tensor:
        drawn.append((self.unet.config.image_size, len(seeds)))
        return plain(self, seeds, *rest)

    monkeypatch.setattr(DDPM, "sample", noted)
    outcome = tenshot(*measured(parts, "search", OF_S, "[0, 60]", "--search.by", "fd_random_true_conditions"))
    assert outcome.status == 0, outcome.err
    assert drawn == [(8, 3), *[(16, 3)] * 4]
    folder = parts / "run" / "searches" / "stages.0.augmentation_s"
    rows = json.loads((folder / "search.json").read_text())["rows"]
    assert [row["options"] for row in rows] == [{"model.stages.0.augmentation_s": s} for s in (0, 60)]
    best = min(rows, key=lambda row: row["values"]["0"]["fd_random_true_conditions"])
    [lines] = yaml.safe_load((folder / "search.yaml").read_text())["model"]["init_args"]["stages"]
    assert lines["augmentation_s"] == best["options"]["model.stages.0.augmentation_s"]
    assert lines["checkpoint"] == str(parts / "stage" / "saved.ckpt")
    assert tenshot(*measured(parts, "test", "--model.stages", json.dumps([lines]))).status == 0
    [file] = (parts / "run" / "evaluations").glob("*.json")
    assert json.loads(file.read_text())["values"] == best["values"]["0"]


def test_test_measures_it_with_generated_and_with_true_conditions(tenshot: tiny.Run, parts: Path):
    outcome = tenshot(*measured(parts, "test", "--data.num_val", "2"))
    assert outcome.status == 0, outcome.err
    [file] = (parts / "run" / "evaluations").glob("*.json")
    result = json.loads(file.read_text())
    assert (result["method"], result["drawn_by"]["image_size"]) == ("Cascade", 16)

    module, data, seeds = cascade(parts), tiny.faces(num_images=3, num_val=2), torch.arange(3)
    reference, val = data.reference(4), data.val_source
    assert reference is not None
    assert val is not None
    z = F.avg_pool2d(from_pixels(val.read([0, 1, 0])["image"]), 2)
    of_true = module.generators[1].sample(stage_seeds(seeds, 1), {"low_res": z})
    for name, images in (("", module.sample(seeds)), ("_true_conditions", of_true)):
        metric = FrechetDistance("random")
        metric.update(reference.read(range(4))["image"], real=True)
        metric.update(to_pixels(images))
        assert result["values"][f"fd_random{name}"] == pytest.approx(float(metric.compute()), rel=1e-6)
    told = result["metrics"]["frechet_true_conditions"]["settings"]
    assert told == result["metrics"]["frechet"]["settings"] | {"low_res_of": str(val)}


def test_true_conditions_are_of_cascades_whose_stage_fits_the_data(parts: Path):
    module, data, plain = cascade(parts), tiny.faces(), Conditions("evaluate")
    refuse_true_conditions(module, data, plain)
    tiny.refusal(lambda: refuse_true_conditions(tiny.ddpm(), data, plain), "of a cascade, which DDPM is not")
    tiny.refusal(lambda: refuse_true_conditions(module, data, Conditions("evaluate", 3)), "leave --evaluate.label out")
    tiny.refusal(lambda: refuse_true_conditions(module, tiny.faces(image_size=32), plain), "--data.image_size 16")
    module.generators[-1].guide = SimpleNamespace(num_classes=9)
    tiny.refusal(lambda: refuse_true_conditions(module, data, plain), "--data.labels true")
    refuse_true_conditions(module, tiny.faces(labels=True), plain)


def test_it_takes_no_checkpoint_and_is_not_trained(tenshot: tiny.Run, parts: Path):
    given = ["--ckpt_path", str(parts / "base" / "saved.ckpt")]
    tiny.assert_one_line(tenshot("predict", *words(parts), *given), 1, "--ckpt_path .*saved.ckpt: Cascade draws from")
    data = ["--data", "SyntheticFaces", "--data.image_size", "16"]
    tiny.assert_one_line(tenshot("fit", *words(parts), *data), 1, "Cascade is not trained: .*tenshot predict")
