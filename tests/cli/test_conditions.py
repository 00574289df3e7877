"""Which classes ``predict``, ``test`` and grids draw, and that images of other classes are told apart."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from tenshot.callbacks.image_writer import to_uint8
from tenshot.lightning_modules import DDPM, ClassifierFreeGuidance

CLASSES, COUNT = 9, 11
QUICK = ["--model.sampler.method", "ddim", "--model.sampler.steps", "ddim2"]
FACES = ["--data", "SyntheticFaces", "--data.image_size", "16", "--data.shots", "3", "--data.num_val", "0"]
FACES += ["--evaluate.features", "random", "--evaluate.metrics", "[pairwise_lpips]", "--evaluate.samples", str(COUNT)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a class-conditional network of random weights."""
    module = tiny.randomised(tiny.ddpm(unet=tiny.unet_config(num_classes=CLASSES)))
    return tiny.weights_file(tmp_path_factory.mktemp("weights") / "classes.safetensors", module)


@pytest.fixture(scope="module")
def expected(weights: Path) -> Callable[[Sequence[int] | None], np.ndarray]:
    """What the method draws of these labels, or without any: (COUNT, 16, 16, 3)."""
    module = DDPM(init_from=str(weights), sampler=tiny.QUICK)
    module.configure_model()

    def drawn(labels: Sequence[int] | None) -> np.ndarray:
        condition = None if labels is None else {"label": torch.tensor(labels)}
        return to_uint8(module.sample(torch.arange(COUNT), condition)).numpy()

    return drawn


def read(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_predict_is_guided_and_says_how(tenshot: tiny.Run, tmp_path: Path):
    unet = tiny.unet_config(num_classes=CLASSES, null_class=True)
    module = tiny.randomised(tiny.ddpm(unet=unet, classifier_free=ClassifierFreeGuidance(3.0, "image")))
    weights = tiny.weights_file(tmp_path / "hidden.safetensors", module)
    found = {}
    for name, options in {"plain": [], "1": ["1"], "3": ["3", "--model.classifier_free.normalize", "image"]}.items():
        words = ["--images.dir", tmp_path / name, "--images.count", "3"]
        guided = ["--model.classifier_free.scale", *options] if options else []
        outcome = tenshot("predict", "--ckpt_path", weights, *QUICK, *words, *guided)
        assert outcome.status == 0, outcome.err
        record = json.loads((tmp_path / name / "drawn_by.json").read_text())["depends_on"]
        found[name] = read(tmp_path / name), record.get("classifier_free")
    assert "scale 3 (w = 2), normalised by image" in outcome.log
    assert (found["3"][0] == to_uint8(module.sample(torch.arange(3))).numpy()).all()
    assert found["3"][1]["scale"] == 3
    assert (found["1"][0] == found["plain"][0]).all()
    assert (found["3"][0] != found["plain"][0]).any()
    assert found["1"][1] is None  # the same images: their folder goes on


CHOICES: list[tuple[list[str], list[int] | None, dict[str, Any] | None]] = [
    (["label", "2"], [2] * COUNT, {"label": 2}),
    (["labels", "uniform"], [number % CLASSES for number in range(COUNT)], {"labels": "uniform"}),
    ([], None, None),
]


def options(group: str, choice: Sequence[str]) -> list[str]:
    return [f"--{group}.{choice[0]}", *choice[1:]] if choice else []


@pytest.mark.parametrize(("choice", "labels", "recorded"), CHOICES)
def test_predict_and_test_draw_the_classes_that_are_asked_for(
    tenshot: tiny.Run, weights: Path, expected: Any, tmp_path: Path, choice: list[str], labels: Any, recorded: Any
):
    drawn, saved = tmp_path / "drawn", tmp_path / "saved"
    words = ["--ckpt_path", weights, *QUICK, "--trainer.default_root_dir", tmp_path]
    predict = ["--images.dir", drawn, "--images.count", str(COUNT), *options("images", choice)]
    outcome = tenshot("predict", *words, *predict, "--images.batch_size", "4")
    assert outcome.status == 0, outcome.err
    assert (read(drawn) == expected(labels)).all()
    outcome = tenshot("test", *words, *FACES, "--evaluate.save", saved, *options("evaluate", choice))
    assert outcome.status == 0, outcome.err
    assert (read(saved) == read(drawn)).all()

    [file] = (tmp_path / "evaluations").iterdir()
    records = [json.loads(path.read_text()) for path in (drawn / "drawn_by.json", saved / "drawn_by.json")]
    told = [record["depends_on"] for record in records] + [json.loads(file.read_text())["drawn_by"]]
    assert [part.get("condition") for part in told] == [recorded] * 3
    assert all(("condition" in part) == (recorded is not None) for part in told)  # as in folders of older versions


def test_the_label_is_seen_in_the_images(expected: Any):
    """Without which the test above would say nothing."""
    sets = [expected(labels) for _, labels, _ in CHOICES]
    for number, one in enumerate(sets):
        assert all((one != other).any(axis=(1, 2, 3)).sum() >= COUNT // 2 for other in sets[:number])


def test_a_folder_is_of_one_choice_of_classes(tenshot: tiny.Run, weights: Path, expected: Any, tmp_path: Path):
    def predict(folder: str, count: int, *choice: str) -> tiny.Outcome:
        words = ["--ckpt_path", weights, *QUICK, "--images.dir", tmp_path / folder, "--images.count", str(count)]
        return tenshot("predict", *words, *options("images", choice))

    for folder, first, others in (
        ("of_all", ["labels", "random"], [["label", "0"]]),
        ("of_one", ["label", "1"], [[], ["labels", "uniform"]]),
    ):
        assert predict(folder, 2, *first).status == 0
        for other in others:
            assert "holds samples of something else (condition " in predict(folder, COUNT, *other).complaint
            assert len(list((tmp_path / folder).glob("*.png"))) == 2
    again = predict("of_one", COUNT, "label", "1")
    assert "2 of them are there already" in again.log
    assert (read(tmp_path / "of_one") == expected([1] * COUNT)).all()


def test_a_measurement_of_other_classes_is_another_one(tenshot: tiny.Run, weights: Path, tmp_path: Path):
    words = ["test", "--ckpt_path", weights, *QUICK, *FACES, "--trainer.default_root_dir", tmp_path]
    for choice, files in (([], 1), (["label", "1"], 2), (["label", "2"], 3), (["label", "2"], 3)):
        assert tenshot(*words, *options("evaluate", choice)).status == 0
        assert len(list((tmp_path / "evaluations").iterdir())) == files


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (["--G.label", "9"], "--G.label is 9: the model has 9 classes, choose one of 0 … 8"),
        (["--G.label", "1", "--G.labels", "uniform"], "--G.label 1 and --G.labels uniform exclude each other"),
    ],
)
@pytest.mark.parametrize("group", ["images", "evaluate", "grid"])
def test_what_cannot_be_drawn_is_refused_before_anything_is(
    tenshot: tiny.Run, weights: Path, tmp_path: Path, group: str, choice: list[str], told: str
):
    words = ["--trainer.default_root_dir", tmp_path / "run", *(word.replace("G", group) for word in choice)]
    match group:
        case "images":
            outcome = tenshot("predict", "--ckpt_path", weights, *words)
        case "evaluate":
            outcome = tenshot("test", "--ckpt_path", weights, *FACES, *words, "--evaluate.save", tmp_path / "saved")
        case _:
            fit = ["--model", "DDPM", "--model.init_from", weights, "--trainer.max_steps", "2"]
            fit += ["--data.labels", "true", "--trainer.accelerator", "cpu"]
            outcome = tenshot("fit", *FACES, *fit, *words)
    assert told.replace("G", group) in outcome.complaint
    assert not list(tmp_path.rglob("*.png"))
    assert not list(tmp_path.rglob("drawn_by.json"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_model_without_classes_says_so(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    outcome = tenshot("predict", "--ckpt_path", trained, "--images.dir", tmp_path / "images", "--images.label", "0")
    assert "--images.label chooses classes, but this DDPM has none: leave the option out" in outcome.complaint
    folder = ["test", "--model", "FolderGenerator", "--model.root", tmp_path]
    Image.new("RGB", (16, 16)).save(tmp_path / "0.png")
    outcome = tenshot(*folder, *FACES, "--evaluate.labels", "uniform", "--trainer.default_root_dir", tmp_path / "run")
    assert "--evaluate.labels chooses classes, but this FolderGenerator has none" in outcome.complaint
    assert not (tmp_path / "images").exists()
