"""PITI on the command line: trained on pairs, drawn from the conditions of the data."""

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
from tiny_piti import TINY, config, piti
from tiny_stages import saved

from tenshot.callbacks.image_writer import to_uint8
from tenshot.cli import main
from tenshot.datamodules.conditions import Conditions
from tenshot.lightning_modules import PITI

QUICK = ["--model.sampler.method", "ddim", "--model.sampler.steps", "ddim2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("piti")
    words = ["--trainer.default_root_dir", str(folder / "run"), "--trainer.max_steps", "1"]
    start = saved(folder, tiny.randomised(piti(piti=TINY)))  # a fresh network sees no condition
    main(["fit", "--config", config(folder, init_from=start, stage=2, condition_drop=0.2), *words])
    return folder / "run"


def read(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def drawn(run: Path, count: int, preview: bool = False, **options: Any) -> np.ndarray:
    """What the run's averaged weights make of the validation masks, one after the other."""
    module = PITI(init_from=str(run), sampler=tiny.QUICK, **options)
    module.configure_model()
    data = tiny.faces(num_val=4, pairs="mask", condition_size=32)
    assert data.val_source is not None
    masks = data.val_source.read([number % 4 for number in range(count)])["condition_image"]
    return to_uint8(module.sample(torch.arange(count), {"condition_image": masks}, preview)).numpy()


def test_the_size_of_conditions_is_the_network_s_and_grids_show_them(run: Path):
    written = yaml.safe_load((run / "config.yaml").read_text())
    assert written["data"]["init_args"]["condition_size"] == 32
    grid = np.asarray(Image.open(run / "samples" / "step=00000001.png"))
    labels = grid.shape[1] - (3 * 18 + 2)  # words to the left of the images
    assert grid.shape[0] == 3 * 18 + 2
    assert labels > 0
    assert all((grid[2 + 18 * row : 18 + 18 * row, :labels] < 100).any() for row in range(3))
    data = tiny.faces(num_val=4, pairs="mask", condition_size=32)
    assert data.val_source is not None
    batch, samples = data.val_source.read([0, 1, 2]), drawn(run, 3, preview=True)
    for number in range(3):
        condition, sample, truth = (grid[2 + 18 * row :, labels + 2 + 18 * number :][:16, :16] for row in range(3))
        mask = batch["condition_image"][number].permute(1, 2, 0).numpy()
        assert (np.abs(condition.astype(int) - mask[::2, ::2]) <= 1).all()
        assert (truth == batch["image"][number].permute(1, 2, 0).numpy()).all()
        assert (sample == samples[number]).all()


def test_predict_and_test_draw_from_the_conditions_of_the_data(tenshot: tiny.Run, run: Path, tmp_path: Path):
    words = ["--ckpt_path", run, "--images.dir", tmp_path / "images", "--images.count", "6"]
    outcome = tenshot("predict", *words)
    assert outcome.status == 0, outcome.err
    assert (read(tmp_path / "images") == drawn(run, 6)).all()
    assert "condition_image_of" in json.loads((tmp_path / "images/drawn_by.json").read_text())["depends_on"]
    guided = ["--model.classifier_free.scale", "3", "--images.dir", tmp_path / "guided", "--images.count", "2"]
    assert tenshot("predict", "--ckpt_path", run, *guided).status == 0
    assert (read(tmp_path / "guided") != read(tmp_path / "images")[:2]).any()

    measured = ["--evaluate.features", "random", "--evaluate.metrics", "[pairwise_lpips]", "--evaluate.samples", "5"]
    outcome = tenshot("test", "--ckpt_path", run, *measured, "--evaluate.save", tmp_path / "saved")
    assert outcome.status == 0, outcome.err
    assert (read(tmp_path / "saved") == drawn(run, 5)).all()


def test_other_conditions_are_other_samples_and_a_folder_of_others_is_refused(
    tenshot: tiny.Run, run: Path, tmp_path: Path
):
    words = ["--ckpt_path", run, "--images.dir", tmp_path / "images", "--images.count", "2"]
    assert tenshot("predict", *words).status == 0
    complaint = tenshot("predict", *words, "--data.seed", "1").complaint
    assert "holds samples of something else (condition_image_of" in complaint
    assert tenshot("predict", *words[:3], tmp_path / "others", *words[4:], "--data.seed", "1").status == 0
    assert (read(tmp_path / "others") != read(tmp_path / "images")).any()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data.pairs", "null"], "PITI draws from condition_image, which"),
        (["--images.low_res", "."], "--images.low_res gives images to enlarge, which PITI does not"),
    ],
)
def test_what_cannot_be_drawn_from_is_one_line(
    tenshot: tiny.Run, run: Path, tmp_path: Path, words: list[str], told: str
):
    assert told in tenshot("predict", "--ckpt_path", run, "--images.dir", tmp_path / "images", *words).complaint
    assert not (tmp_path / "images").exists()


def test_stage_1_goes_on_where_it_was_stopped_without_the_files_that_it_began_with(
    tenshot: tiny.Run, run: Path, tmp_path: Path
):
    model = {"init_from": str(run), "encoder_from": str(run), "stage": 1}
    words = ["fit", "--config", config(tmp_path, **model), "--trainer.default_root_dir", tmp_path / "run"]
    words += ["--grid.every_n_steps", "0"]
    assert tenshot(*words, "--trainer.max_steps", "1").status == 0
    outcome = tenshot("fit", "--ckpt_path", tmp_path / "run", "--trainer.max_steps", "2")
    assert outcome.status == 0, outcome.err
    first, last = (
        torch.load(path, weights_only=True)["ema"]["weights"]["unet"]
        for path in (run / "checkpoints/step=00000001.ckpt", tmp_path / "run/checkpoints/step=00000002.ckpt")
    )
    moved = {name for name, value in last.items() if not torch.equal(value, first[name])}
    assert moved
    assert all(name.startswith("context_encoder.") for name in moved)


def test_a_file_of_weights_alone_needs_data_to_draw_from(tenshot: tiny.Run, run: Path, tmp_path: Path):
    outcome = tenshot("convert", run, tmp_path / "weights.safetensors")
    assert outcome.status == 0, outcome.err
    words = ["predict", "--ckpt_path", tmp_path / "weights.safetensors", *QUICK, "--images.dir", tmp_path / "images"]
    assert "PITI draws from what the data give beside images: give --data" in tenshot(*words).complaint
    faces = ["--data", "SyntheticFaces", "--data.pairs", "mask", "--data.num_val", "4", "--data.num_images", "12"]
    outcome = tenshot(*words, *faces, "--images.count", "3")
    assert outcome.status == 0, outcome.err
    assert len(read(tmp_path / "images")) == 3


def test_one_condition_of_many_that_changed_is_noticed():
    """Of a set with as many images as few-shot sets have."""

    def told(rows: torch.Tensor) -> Any:
        data: Any = SimpleNamespace(val_source=Rows(rows))
        return Conditions("images", data=data).enlarged(SimpleNamespace(condition_name="condition_image"))

    conditions = torch.zeros(100, 3, 4, 4, dtype=torch.uint8)
    for changed in (0, 37, 99):
        other = conditions.clone()
        other[changed, 0, 1, 2] = 1
        assert told(other) != told(conditions)
    assert told(conditions.clone()) == told(conditions)


class Rows:
    """Conditions by number."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: list[int]) -> dict[str, torch.Tensor]:
        return {"condition_image": self.rows[indices]}

    def __str__(self) -> str:
        return "rows"
