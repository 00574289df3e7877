"""``tenshot cas``: samples with the classes of the real images, one classifier on each, in commands that go on."""

import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models

from tenshot.callbacks.drawn_by import DrawnBy
from tenshot.callbacks.drawn_folder import DrawnFolder
from tenshot.callbacks.image_writer import to_uint8
from tenshot.cli import cas as command
from tenshot.cli import main
from tenshot.datamodules import SyntheticFaces
from tenshot.lightning_modules import DDPM

BARE = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
QUICK = ["--model.sampler.method", "ddim", "--model.sampler.steps", "ddim2"]
FACES: dict[str, Any] = {"image_size": 16, "batch_size": 4, "num_images": 14, "num_val": 10, "labels": True}
REAL = {"class_path": "SyntheticFaces", "init_args": FACES}


class Small(nn.Module):
    """In the place of a ResNet."""

    def __init__(self, weights: None, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a class-conditional network of random weights."""
    module = tiny.randomised(tiny.ddpm(unet=tiny.unet_config(num_classes=9)))
    return tiny.weights_file(tmp_path_factory.mktemp("weights") / "classes.safetensors", module)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a recipe of two steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "get_model", lambda name, **arguments: Small(**arguments))
    method = {"class_path": "ClassificationAccuracyScore", "init_args": {"network": "resnet18", "crop": 14}}
    trainer = {"max_steps": 2, "val_check_interval": 2, "enable_model_summary": False}
    tiny.write_yaml(tmp_path / "recipe.yaml", {"model": method, "data": REAL, "trainer": trainer})
    return tmp_path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run, here in this process."""
    every: list[list[str]] = []

    def run(words: Sequence[str], of: str) -> None:
        assert of == "cas"
        every.append(list(words))
        main([*words, *BARE])

    monkeypatch.setattr(command, "run", run)
    return every


def classes_of_real() -> list[int]:
    """Of the training images, by reading them."""
    source = SyntheticFaces(**FACES).train_source
    return source.read(range(len(source)))["label"].tolist()


def last(folder: Path, name: str) -> float:
    rows = list(csv.DictReader((folder / "logs/version_0/metrics.csv").read_text().splitlines()))
    return [float(row[name]) for row in rows if row.get(name)][-1]


def test_the_whole_way(tenshot: tiny.Run, place: Path, ran: list[list[str]], weights: Path):
    words = ["cas", str(weights), "--config", "recipe.yaml", "--output", "out", "--real", *QUICK]
    plan = tenshot(*words, "--dry_run")
    assert plan.status == 0, plan.err
    assert not Path("out").exists()
    outcome = tenshot(*words)
    assert outcome.status == 0, outcome.err
    assert ran == [shlex.split(line)[2:] for line in plan.out.splitlines()]

    real = classes_of_real()
    assert len(set(real)) > 4  # so that equal counts say something
    told = dict(json.loads(Path("out/samples/dataset.json").read_text())["labels"])
    assert [told[f"{i:06d}.png"] for i in range(14)] == real
    module = DDPM(init_from=str(weights), sampler=tiny.QUICK)
    module.configure_model()
    expected = to_uint8(module.sample(torch.arange(14), {"label": torch.tensor(real)})).numpy()
    drawn = np.stack([np.asarray(Image.open(path)) for path in sorted(Path("out/samples").glob("*.png"))])
    assert (drawn == expected).all()

    result = json.loads(Path("out/cas.json").read_text())
    for name in ("on_samples", "on_real"):
        assert result[name]["top1"] == last(Path("out") / name, "cas/top1")
        assert result[name]["top5"] == last(Path("out") / name, "cas/top5")
        assert result[name]["step"] == 2  # as its checkpoints count: all of them
        assert f"{100 * result[name]['top1']:.2f}%" in outcome.out
    trained_on = [
        json.loads((Path("out") / name / "data.json").read_text())["class"] for name in ("on_samples", "on_real")
    ]
    assert trained_on == ["SampleFolder", "SyntheticFaces"]

    (Path("out/samples") / "000003.png").unlink()
    words.remove("--real")
    assert tenshot(*words).status == 0  # what is missing is drawn, the rest is done
    assert Path("out/samples/000003.png").exists()
    assert json.loads(Path("out/cas.json").read_text())["on_samples"] == result["on_samples"]

    tiny.assert_one_line(
        tenshot(*words[:2], "--config", "recipe.yaml", "--output", "out", "--seed", "1", *QUICK), 1, "seed 0, not 1"
    )
    other = Path("recipe.yaml").read_text().replace("max_steps: 2", "max_steps: 3")
    Path("recipe.yaml").write_text(other)
    tiny.assert_one_line(tenshot(*words), 1, r"out holds the score of something else \(on_samples.yaml\)")


def test_samples_that_are_there_are_not_drawn(tenshot: tiny.Run, place: Path, ran: list[list[str]]):
    """Such as those of another program, in class folders."""
    for number in range(9):
        (place / "theirs" / str(number)).mkdir(parents=True)
        Image.new("RGB", (16, 16), (20 * number, 0, 0)).save(place / "theirs" / str(number) / "a.png")
    outcome = tenshot("cas", "theirs", "--config", "recipe.yaml")
    assert outcome.status == 0, outcome.err
    assert [words[0] for words in ran] == ["fit"]
    record = json.loads(next(Path("runs/cas").glob("*theirs/on_samples/data.json")).read_text())
    assert (record["class"], record["train"]["count"]) == ("SampleFolder", 9)
    tiny.assert_one_line(
        tenshot("cas", "theirs", "--config", "recipe.yaml", "--images.count", "3"), 1, "--images.count is no option"
    )


def test_a_run_is_drawn_from_with_its_own_configuration_and_the_recipes_data(place: Path):
    """The classes are those of the real images of the recipe."""
    run = place / "run"
    (run / "checkpoints").mkdir(parents=True)
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": {}}, run / "checkpoints" / "step=00000001.ckpt")
    tiny.write_yaml(run / "config.yaml", {"model": {"class_path": "DDPM"}, "data": {"class_path": "FewShot"}})
    config = command._drawing_from(str(run))
    assert config == {
        "model": {"class_path": "DDPM"}, "data": {"class_path": "FewShot"}, "trainer": {"default_root_dir": str(run)},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["x", "--config", "no.yaml"], "no.yaml: no such file"),
        (["x", "--config", "other.yaml"], "no recipe of ClassificationAccuracyScore"),
        (["gone.ckpt", "--config", "recipe.yaml"], "gone.ckpt: no such checkpoint file or run folder"),
        (["x", "--config", "recipe.yaml", "--seed", "-1"], "--seed is -1"),
    ],
)
def test_mistakes_are_one_line(tenshot: tiny.Run, place: Path, words: list[str], told: str):
    tiny.write_yaml(place / "other.yaml", {"model": {"class_path": "DDPM"}, "data": REAL})
    (place / "x").mkdir()
    tiny.assert_one_line(tenshot("cas", *words), 1, told)


# --images.labels data


def test_data_without_labels_give_none(tenshot: tiny.Run, place: Path, weights: Path):
    faces = ["--data", "SyntheticFaces", "--data.image_size", "16"]
    outcome = tenshot("predict", "--ckpt_path", weights, "--images.labels", "data", *faces, *QUICK, *BARE)
    tiny.assert_one_line(outcome, 1, "the data have no labels: give --data, with --data.labels true")
    outcome = tenshot("predict", "--ckpt_path", weights, "--images.labels", "data", *QUICK, *BARE)
    tiny.assert_one_line(outcome, 1, "the data have no labels: give --data, with --data.labels true")


def test_a_dataset_json_keeps_the_classes_of_more_samples(tmp_path: Path):
    """Which may have been drawn before."""
    folder = DrawnFolder(tmp_path, DrawnBy({}, {}), "--images.dir")
    for classes in ([3, 1], [3, 1, 4], [3]):
        folder.tell_classes(classes)
    told = json.loads((tmp_path / "dataset.json").read_text())
    assert told == {"labels": [["000000.png", 3], ["000001.png", 1], ["000002.png", 4]]}
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]
