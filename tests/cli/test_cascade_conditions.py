"""A cascade from a folder of masks: images named after them, what the base drew kept, samples measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_conditions
import tiny_piti
from PIL import Image
from tiny_conditions import part

from tenshot.callbacks.image_writer import to_uint8
from tenshot.datamodules.condition_files import condition_files

NAMES = ("a", "b", "more/c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of a cascade, its configuration, and ``masks``."""
    folder = tiny_conditions.parts(tmp_path_factory.mktemp("cascade"))
    stages = [{"checkpoint": part(folder, "upsampler"), "sampler": tiny_conditions.SAMPLER}]
    options = {"base": part(folder, "base"), "base_sampler": tiny_conditions.SAMPLER, "stages": stages}
    faces = {"image_size": 16, "num_images": 12, "num_val": 4, "pairs": "mask"}
    data = {"class_path": "SyntheticFaces", "init_args": faces}
    model = {"class_path": "Cascade", "init_args": options}
    tiny.write_yaml(folder / "cascade.yaml", {"model": model, "data": data, "trainer": tiny.COMMAND_LINE["trainer"]})
    for number, name in enumerate(NAMES):
        mask(folder, name, number)
    return folder


def mask(folder: Path, name: str, seed: int) -> None:
    path = folder / "masks" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(9, size=(32, 32), dtype=np.uint8)).save(path)


def expected(folder: Path) -> dict[str, np.ndarray]:
    files = condition_files(tiny_piti.pairs(), str(folder / "masks"), "")
    given = {"condition_image": files.read(range(len(files)))}
    drawn = to_uint8(tiny_conditions.cascade(folder).sample(files.numbers(1), given)).numpy()
    return dict(zip(files.names, drawn, strict=True))


def read(folder: Path) -> dict[str, np.ndarray]:
    files = sorted(folder.rglob("*.png"))
    return {str(file.relative_to(folder).with_suffix("")): np.asarray(Image.open(file)) for file in files}


def test_one_command_draws_from_a_folder_of_masks_and_keeps_what_the_base_drew(tenshot: tiny.Run, folder: Path):
    words = ["predict", "--config", str(folder / "cascade.yaml"), "--images.conditions", str(folder / "masks")]
    words += ["--images.keep_stages", str(folder / "kept"), "--trainer.default_root_dir", str(folder), "--images.dir"]
    outcome = tenshot(*words, str(folder / "one"))
    assert outcome.status == 0, outcome.err
    first = expected(folder)
    for name, image in read(folder / "one").items():
        assert np.array_equal(image, first[name]), name
    assert first.keys() == read(folder / "one").keys() == set(NAMES)
    [*_, kept] = (folder / "kept/base").glob("*.safetensors")
    kept.unlink()
    outcome = tenshot(*words, str(folder / "two"))
    assert "2 of 3 images are there already" in outcome.err + outcome.log, outcome.err
    for name, image in read(folder / "two").items():
        assert np.array_equal(image, first[name]), name

    mask(folder, "b", 77)
    outcome = tenshot(*words, str(folder / "three"))
    tiny.assert_one_line(outcome, 1, r"kept/base/\d+\.safetensors: not drawn by .* from the condition as it is now")


def test_samples_are_measured_against_the_masks_that_they_are_drawn_from(tenshot: tiny.Run, folder: Path):
    words = ["--evaluate.samples", "4", "--evaluate.metrics", "[frechet]", "--evaluate.features", "random"]
    words += ["--evaluate.true_conditions", "true", "--evaluate.save", str(folder / "drawn")]
    words += ["--trainer.default_root_dir", str(folder / "measured")]
    outcome = tenshot("test", "--config", str(folder / "cascade.yaml"), *words)
    assert outcome.status == 0, outcome.err
    [file] = (folder / "measured/evaluations").glob("*.json")
    result = json.loads(file.read_text())
    assert result["values"].keys() >= {"fd_random", "fd_random_true_conditions"}
    source = tiny_piti.pairs(num_val=4).val_source
    assert source is not None
    assert str(source) in result["drawn_by"]["condition_image_of"]
