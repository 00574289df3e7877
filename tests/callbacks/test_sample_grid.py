from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from tenshot.callbacks import EMA, SampleGrid
from tenshot.callbacks.image_writer import to_uint8
from tenshot.datamodules import FewShot
from tenshot.lightning_modules import DDPM

STILL = {"optimizer": tiny.adam(lr=0.0), "preview_sampler": tiny.QUICK}


@pytest.fixture(scope="module")
def module() -> DDPM:
    """Learns nothing: its images may differ only by their seeds."""
    return tiny.randomised(tiny.ddpm(**STILL))


def draw(
    folder: Path, module: DDPM, grid: SampleGrid, steps: int = 3, data: Any = None, **arguments: Any
) -> dict[str, np.ndarray]:
    """The grids that a run leaves: name -> (H, W, 3)."""
    tiny.trainer(folder, steps, grid, **arguments).fit(module, data or tiny.faces())
    return {path.name: np.asarray(Image.open(path)) for path in (folder / "samples").glob("*")}


def tile(image: np.ndarray, row: int, column: int) -> np.ndarray:
    """One of the 16 x 16 images in a grid with lines of 2 pixels."""
    top, left = 2 + 18 * row, 2 + 18 * column
    return image[top : top + 16, left : left + 16]


def test_a_grid_every_so_many_steps_and_at_the_end_from_the_same_noise(tmp_path: Path, module: DDPM):
    grids = draw(tmp_path, module, SampleGrid(every_n_steps=2, count=2, columns=2), steps=5)

    assert sorted(grids) == ["step=00000002.png", "step=00000004.png", "step=00000005.png"]
    first, *others = grids.values()
    for other in others:
        assert (first == other).all()
    assert (tile(first, 1, 0) != tile(first, 1, 1)).any()


def test_other_weights_and_other_seeds_give_other_images(tmp_path: Path, module: DDPM):
    grid = {"every_n_steps": 1, "count": 1, "columns": 1}
    same, again, seeds, weights = (
        draw(tmp_path / name, one, SampleGrid(**grid, seed=seed), steps=1)["step=00000001.png"]
        for name, one, seed in (
            ("a", module, 0),
            ("b", module, 0),
            ("c", module, 1),
            ("d", tiny.randomised(tiny.ddpm(**STILL), seed=1), 0),
        )
    )
    assert (same == again).all()
    assert (tile(same, 1, 0) != tile(seeds, 1, 0)).any()
    assert (tile(same, 1, 0) != tile(weights, 1, 0)).any()


def test_the_shots_stand_above_samples_of_the_numbered_seeds(tmp_path: Path, module: DDPM, shots: Path):
    data = FewShot(str(shots), image_size=16, batch_size=2)
    image = draw(tmp_path, module, SampleGrid(every_n_steps=1, count=5, columns=3, seed=4), steps=1, data=data)[
        "step=00000001.png"
    ]
    files = [np.asarray(Image.open(path)) for path in sorted(shots.glob("*.png"))]
    samples = to_uint8(module.sample((4 << 32) + torch.arange(5), preview=True)).numpy()

    assert image.shape == (3 * 18 + 2, 3 * 18 + 2, 3)
    for column in range(3):
        assert (tile(image, 0, column) == files[column]).all()
    for number, sample in enumerate(samples):
        assert (tile(image, 1 + number // 3, number % 3) == sample).all()


@pytest.mark.parametrize(
    ("choice", "labels"), [({"label": 2}, [2] * 4), ({"labels": "uniform"}, [0, 1, 2, 3]), ({}, None)]
)
def test_a_grid_is_of_the_classes_that_are_asked_for(tmp_path: Path, choice: dict[str, Any], labels: list[int] | None):
    module = tiny.randomised(tiny.ddpm(unet=tiny.unet_config(num_classes=9), **STILL))
    grid = SampleGrid(every_n_steps=1, count=4, columns=4, **choice)
    data = tiny.faces(labels=True)
    picture = draw(tmp_path, module, grid, steps=1, data=data)["step=00000001.png"]
    condition = None if labels is None else {"label": torch.tensor(labels)}
    samples = to_uint8(module.sample(torch.arange(4), condition, preview=True)).numpy()
    for number, sample in enumerate(samples):
        assert (tile(picture, 1, number) == sample).all()
    others = to_uint8(module.sample(torch.arange(4), {"label": torch.tensor([1] * 4)}, preview=True)).numpy()
    assert (others != samples).any(axis=(1, 2, 3)).sum() >= 2


def test_a_row_of_few_shots_is_filled_up(tmp_path: Path, module: DDPM, shots: Path):
    data = FewShot(str(shots), shots=1, image_size=16, batch_size=2)
    image = draw(tmp_path, module, SampleGrid(every_n_steps=1, count=2, columns=2), steps=1, data=data)[
        "step=00000001.png"
    ]
    assert (tile(image, 0, 1) == 255).all()
    assert (tile(image, 1, 0) == to_uint8(module.sample(torch.tensor([0]), preview=True))[0].numpy()).all()


def test_grids_are_previews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: DDPM):
    asked = []

    def sample(seeds: Tensor, condition: Tensor | None = None, preview: bool = False) -> Tensor:
        asked.append(preview)
        return torch.zeros(len(seeds), 3, 16, 16)

    monkeypatch.setattr(module, "sample", sample)
    draw(tmp_path, module, SampleGrid(every_n_steps=1, count=1), steps=1)
    assert asked == [True]


def test_drawing_does_not_disturb_training(tmp_path: Path):
    learned = []
    for every in (0, 1):
        module = tiny.randomised(tiny.ddpm(preview_sampler=tiny.QUICK, unet=tiny.unet_config(dropout=0.3)))
        draw(tmp_path / str(every), module, SampleGrid(every_n_steps=every, count=2), ema=EMA(0.5))
        learned.append(module.state_dict())
    tiny.assert_same(*learned)
    assert not (tmp_path / "0" / "samples").exists()


def test_tensorboard_gets_the_grid(tmp_path: Path, module: DDPM):
    logger = TensorBoardLogger(tmp_path, name="tb")
    draw(tmp_path, module, SampleGrid(every_n_steps=2, count=2, columns=2), steps=3, logger=logger)
    logger.finalize("success")

    events = EventAccumulator(logger.log_dir).Reload()
    logged = events.Images("samples")
    assert [event.step for event in logged] == [2, 3]
    assert (logged[0].width, logged[0].height) == (2 * 18 + 2, 2 * 18 + 2)


class Keeps(Logger):
    """A logger with W&B's way of taking images."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[tuple[str, Image.Image, int]] = []

    name = version = "keeps"  # type: ignore[assignment]

    def log_image(self, key: str, images: list[Image.Image], step: int) -> None:
        self.images.append((key, images[0], step))

    def log_metrics(self, *args: Any, **kwargs: Any) -> None: ...

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...


def test_a_logger_that_takes_images_gets_the_image_of_the_file(tmp_path: Path, module: DDPM):
    logger = Keeps()
    grids = draw(tmp_path, module, SampleGrid(every_n_steps=2, count=2, columns=2), steps=2, logger=logger)

    [(key, image, step)] = logger.images
    assert (key, step) == ("samples", 2)
    assert np.array_equal(np.asarray(image), grids["step=00000002.png"])


def test_a_trial_run_draws_nothing(tmp_path: Path, module: DDPM):
    assert not draw(tmp_path, module, SampleGrid(every_n_steps=1), steps=1, fast_dev_run=1)


def test_a_grid_that_cannot_be_written_is_said_once_and_stops_nothing(
    tmp_path: Path, module: DDPM, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "samples").write_text("in the way")
    caplog.set_level("INFO")
    grid = SampleGrid(every_n_steps=1, count=1)
    trainer = tiny.trainer(tmp_path, 3, grid)
    trainer.fit(module, tiny.faces())
    assert trainer.global_step == 3
    said = [record.getMessage() for record in caplog.records if "training goes on without" in record.getMessage()]
    assert len(said) == 1
    assert "step=00000001.png: could not be written" in said[0]
