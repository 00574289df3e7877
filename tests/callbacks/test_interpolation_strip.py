from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tiny
import torch
from linear_generator import SIDE, LinearGenerator
from PIL import Image

from tenshot.callbacks import EMA, InterpolationStrip
from tenshot.callbacks.image_writer import to_uint8
from tenshot.datamodules import Samples
from tenshot.errors import InputError
from tenshot.lightning_modules import LatentGenerator
from tenshot.metrics.latent_paths import slerp


def strips(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted((folder / "strips").glob("*"))}


def fitted(
    folder: Path, strip: InterpolationStrip, module: Any = None, steps: int = 1, **arguments: Any
) -> dict[str, np.ndarray]:
    """The strips that a run leaves: name -> (H, W, 3)."""
    tiny.trainer(folder, steps, strip, **arguments).fit(module or LinearGenerator(), tiny.faces())
    return strips(folder)


def tile(image: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = 2 + (SIDE + 2) * row, 2 + (SIDE + 2) * column
    return image[top : top + SIDE, left : left + SIDE]


def test_the_fake_keeps_the_contract():
    assert isinstance(LinearGenerator(), LatentGenerator)
    assert not isinstance(tiny.ddpm(), LatentGenerator)


def test_a_strip_every_so_many_steps_and_at_the_end(tmp_path: Path):
    drawn = fitted(tmp_path, InterpolationStrip(every_n_steps=2, rows=2, points=3), steps=5)
    assert list(drawn) == ["step=00000002.png", "step=00000004.png", "step=00000005.png"]
    first, *others = drawn.values()
    assert first.shape == (2 * (SIDE + 2) + 2, 3 * (SIDE + 2) + 2, 3)
    assert all((first == other).all() for other in others)


@pytest.mark.parametrize("space", ["w", "z"])
def test_rows_go_from_one_seed_to_the_next_with_one_noise(tmp_path: Path, space: Literal["z", "w"]):
    module, points = LinearGenerator(noise=0.2), 5
    strip = InterpolationStrip(every_n_steps=1, rows=3, points=points, space=space, seed=4)
    [image] = fitted(tmp_path, strip, module).values()
    for row in range(3):
        seeds = (4 << 32) + torch.tensor([2 * row, 2 * row + 1])
        first, second = module.latents(seeds, space)
        for column in range(points):
            t = torch.tensor(column / (points - 1))
            latent = slerp(first, second, t) if space == "z" else torch.lerp(first, second, t)
            expected = to_uint8(module.decode(latent[None], seeds[:1], space).detach())[0].numpy()
            assert np.abs(tile(image, row, column).astype(int) - expected).max() <= 1  # a rounding may tip over
        assert (tile(image, row, 0) == to_uint8(module.sample(seeds[:1]))[0].numpy()).all()


def test_strips_are_of_the_average_and_do_not_disturb_training(tmp_path: Path):
    learned = []
    for every in (0, 2):
        module = LinearGenerator(lr=50.0)
        drawn = fitted(tmp_path / str(every), InterpolationStrip(every, rows=1), module, steps=2, ema=EMA(0.9))
        learned.append(module.state_dict())
    tiny.assert_same(*learned)
    assert not (tmp_path / "0" / "strips").exists()
    raw = to_uint8(module.sample(torch.tensor([0])))[0].numpy()
    average = LinearGenerator(lr=50.0)
    fitted(tmp_path / "again", InterpolationStrip(), average, steps=2, ema=(ema := EMA(0.9)))
    with ema.applied(average):
        expected = to_uint8(average.sample(torch.tensor([0])))[0].numpy()
    assert (expected != raw).any()
    assert (tile(drawn["step=00000002.png"], 0, 0) == expected).all()


def test_a_test_draws_what_it_tests(tmp_path: Path):
    module, strip = LinearGenerator(), InterpolationStrip(every_n_steps=2, rows=1)
    strip.on_load_checkpoint(tiny.trainer(tmp_path, 1), module, {"global_step": 7})
    tiny.trainer(tmp_path, 1, strip).test(module, Samples(2), verbose=False)
    [(name, image)] = strips(tmp_path).items()
    assert name == "step=00000007.png"
    assert (tile(image, 0, 0) == to_uint8(module.sample(torch.tensor([0])))[0].numpy()).all()

    tiny.trainer(tmp_path / "off", 1, InterpolationStrip()).test(module, Samples(2), verbose=False)
    assert not (tmp_path / "off" / "strips").exists()


def test_a_method_without_latents_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO"):
        assert not fitted(tmp_path, InterpolationStrip(every_n_steps=1), tiny.ddpm(), steps=2)
        assert not fitted(tmp_path, InterpolationStrip(), tiny.ddpm())
    assert caplog.text.count("no strips: DDPM has no latents to go between") == 1


def test_a_trial_run_draws_nothing(tmp_path: Path):
    assert not fitted(tmp_path, InterpolationStrip(every_n_steps=1), fast_dev_run=1)


@pytest.mark.parametrize(("name", "value", "least"), [("every_n_steps", -1, 0), ("rows", 0, 1), ("points", 1, 2)])
def test_impossible_strips_are_refused(name: str, value: int, least: int):
    with pytest.raises(InputError, match=f"--strip.{name} is {value}: choose at least {least}"):
        InterpolationStrip(**{name: value})
