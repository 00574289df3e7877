"""``tenshot predict`` for a folder of conditions: images named after them, each a function of these alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_piti
from PIL import Image

from tenshot.callbacks import StepCheckpoint
from tenshot.callbacks.image_writer import to_uint8
from tenshot.checkpoints.kind import plain_fields
from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.condition_files import condition_files
from tenshot.lightning_modules import PITI

NAMES = ("a", "b", "more/c")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    module = tiny.randomised(tiny_piti.piti(piti=tiny_piti.TINY, optimizer=tiny.adam(lr=0.0)))
    tiny.trainer(folder, 1, StepCheckpoint()).fit(module, tiny_piti.pairs())
    Path(tiny_piti.config(folder, piti=plain_fields(tiny_piti.TINY), stage=2)).rename(folder / "config.yaml")
    return folder


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Three masks of drawn faces."""
    faces = SyntheticFaces(image_size=32, num_images=5, condition="mask").train_source.read(range(5))["mask"]
    for name, pixels in zip((*NAMES, "more/d"), faces.numpy(), strict=False):
        path = tmp_path / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    (tmp_path / "masks/more/d.png").rename(tmp_path / "d.png")
    return tmp_path / "masks"


def expected(run: Path, masks: Path, each: int) -> dict[str, np.ndarray]:
    """What the weights of the run make of each mask alone."""
    module = PITI(init_from=str(run), sampler=tiny.QUICK)
    module.configure_model()
    files = condition_files(tiny_piti.pairs(), str(masks), "")
    seeds, found = (3 << 32) + files.numbers(each), {}
    for number, name in enumerate(files.names):
        condition = files.read([number])
        for which in range(each):
            place = number * each + which
            drawn = module.sample(seeds[place : place + 1], {"condition_image": condition})
            found[f"{name}_{which}" if each > 1 else name] = to_uint8(drawn)[0].numpy()
    return found


def read(folder: Path) -> dict[str, np.ndarray]:
    files = sorted(folder.rglob("*.png"))
    return {str(file.relative_to(folder).with_suffix("")): np.asarray(Image.open(file)) for file in files}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def words(run: Path, masks: Path, images: Path, *more: Any) -> list[Any]:
    return [
        "predict",
        "--ckpt_path",
        run,
        "--images.conditions",
        masks,
        "--images.dir",
        images,
        "--images.seed",
        "3",
        *more,
    ]


def test_each_condition_has_its_images_and_new_ones_are_added(
    tenshot: tiny.Run, run: Path, masks: Path, tmp_path: Path
):
    images = tmp_path / "images"
    outcome = tenshot(*words(run, masks, images, "--images.per_condition", "2", "--images.batch_size", "4"))
    assert outcome.status == 0, outcome.err
    assert f"drawing 6 images from the 3 of {masks} (masks), 0 of them" in outcome.log
    drawn = read(images)
    assert list(drawn) == ["a_0", "a_1", "b_0", "b_1", "more/c_0", "more/c_1"]
    assert same(drawn, expected(run, masks, 2))
    assert len({image.tobytes() for image in drawn.values()}) == 6

    (tmp_path / "d.png").rename(masks / "aa.png")  # between the others
    (images / "b_1.png").unlink()
    times = {file: file.stat().st_mtime_ns for file in images.rglob("*.png")}
    outcome = tenshot(*words(run, masks, images, "--images.per_condition", "2", "--images.batch_size", "1"))
    assert "drawing 8 images" in outcome.log
    assert "5 of them are there already" in outcome.log
    assert same(read(images), expected(run, masks, 2))
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())
    record = json.loads((images / "drawn_by.json").read_text())
    assert record["conditions"] == [{"root": [str(masks)], "photographs": False}]


def test_one_of_each_has_its_name_and_a_changed_condition_is_noticed(
    tenshot: tiny.Run, run: Path, masks: Path, tmp_path: Path
):
    images = tmp_path / "images"
    outcome = tenshot(*words(run, masks, images))
    assert outcome.status == 0, outcome.err
    assert list(read(images)) == list(NAMES)
    assert same(read(images), expected(run, masks, 1))
    pixels = np.array(Image.open(masks / "b.png"))
    pixels[:8] = 3
    Image.fromarray(pixels).save(masks / "b.png")
    complaint = tenshot(*words(run, masks, images)).complaint
    assert f"{images}/b.png: not drawn by this model and settings from the condition of its name" in complaint


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--images.count", "3"], "--images.count 3: --images.conditions tells how many images there are"),
        (["--images.photos", "x"], "--images.conditions and --images.photos are both given"),
        (["--data.pairs", "sketch"], "condition images with 1 channels for a network of 3"),
        (["--images.per_condition", "0"], "images.per_condition is 0"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    tenshot: tiny.Run, run: Path, masks: Path, tmp_path: Path, more: list[str], told: str
):
    assert told in tenshot(*words(run, masks, tmp_path / "images", *more)).complaint
    assert not (tmp_path / "images").exists()


def test_a_bad_file_is_named_before_anything_is_drawn(tenshot: tiny.Run, run: Path, masks: Path, tmp_path: Path):
    Image.new("L", (32, 32), 182).save(masks / "z.png")
    assert (
        "z.png has pixels of no class (value 182: 1024 pixels)"
        in tenshot(*words(run, masks, tmp_path / "images")).complaint
    )
    assert not (tmp_path / "images").exists()


def test_other_methods_say_that_they_draw_from_none(tenshot: tiny.Run, trained: Path, masks: Path, tmp_path: Path):
    more = ["--data.pairs", "mask"]
    complaint = tenshot(*words(trained, masks, tmp_path / "images", *more)).complaint
    assert "--images.conditions gives condition images, which this DDPM does not draw from" in complaint
