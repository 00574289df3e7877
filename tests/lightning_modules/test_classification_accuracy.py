"""The classification accuracy score against NumPy, torchvision and a set that a classifier must learn."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import RandomResizedCrop

from tenshot.callbacks import StepCheckpoint
from tenshot.datamodules import ImageDataModule, ImageFolder, SampleFolder
from tenshot.datamodules.batches import Batch, Source
from tenshot.errors import InputError
from tenshot.lightning_modules import ClassificationAccuracyScore
from tenshot.lightning_modules.classification_accuracy import random_crops
from tenshot.run import FullySharded

COLOURS = ("blue", "green", "red")


class Tiny(nn.Module):
    """In the place of a ResNet, which takes a second to build."""

    def __init__(self, weights: None = None, num_classes: int = 0) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean(dim=(2, 3)))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "get_model", lambda name, **arguments: Tiny(**arguments))


@dataclass
class Plain:
    """Images of one colour, which is the label; ``shift`` names the colours wrongly."""

    count: int = 12
    shift: int = 0

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> Batch:
        images = torch.zeros(len(indices), 3, 8, 8, dtype=torch.uint8)
        for row, index in enumerate(indices):
            images[row, index % 3] = 200 + index
        return {"image": images, "label": torch.tensor([(index + self.shift) % 3 for index in indices])}


class Real(ImageDataModule):
    num_classes = 3  # type: ignore[assignment]
    class_names: tuple[str, ...] = ()
    trained_on: Source = Plain()
    tested_on: Source | None = Plain(5)

    def __init__(self, size: int = 8) -> None:
        super().__init__(6, size, 0, flip=False, num_workers=0)

    def sources(self) -> tuple[Source, Source | None]:
        return self.trained_on, self.tested_on


def method(**arguments: Any) -> ClassificationAccuracyScore:
    return ClassificationAccuracyScore(**({"optimizer": tiny.adam(3e-2), "crop": 6, "crop_area": 0.5} | arguments))


def fit(folder: Path, module: ClassificationAccuracyScore, data: ImageDataModule, steps: int = 1, **more: Any) -> Any:
    trainer: Trainer = tiny.trainer(folder, steps, val_check_interval=steps, check_val_every_n_epoch=None, **more)
    torch.manual_seed(0)
    trainer.fit(module, data)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


@dataclass
class Noise:
    """Random images of seven classes."""

    def __len__(self) -> int:
        return 41

    def read(self, indices: Sequence[int]) -> Batch:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (41, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return {"image": images[indices], "label": torch.randint(7, (41,), generator=generator)[indices]}


def test_accuracies_are_those_of_all_validation_images_by_their_centre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Real, "num_classes", 7)
    module, data = method(optimizer=tiny.adam(0.0)), Real()
    data.tested_on = Noise()
    values = fit(tmp_path, module, data)
    batch = data.tested_on.read(range(41))
    x = (batch["image"].double() / 127.5 - 1)[:, :, 1:7, 1:7]
    with torch.no_grad():
        logits = module.network.double().eval()(x).numpy()
    order, labels = np.argsort(-logits, axis=1), batch["label"].numpy()
    expected = (order[:, 0] == labels).mean(), (order[:, :5] == labels[:, None]).any(1).mean()
    assert 0 < expected[0] < expected[1] < 1
    assert (values["cas/top1"], values["cas/top5"]) == pytest.approx(expected)
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(41), labels]
    assert values["cas/loss"] == pytest.approx(loss.mean(), rel=1e-5)


def test_it_learns_what_its_training_images_teach(tmp_path: Path):
    """Colours by their names; and from a set that names them wrongly, to be always wrong."""
    right, wrong = Real(), Real()
    wrong.trained_on = Plain(shift=1)
    assert fit(tmp_path / "a", method(), right, 25)["cas/top1"] == 1
    assert fit(tmp_path / "b", method(), wrong, 25)["cas/top1"] == 0


def test_equal_logits_are_right_about_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Tiny, "forward", lambda self, x: 0 * self.head(x.mean(dim=(2, 3)).repeat(1, 3)[:, :8]))
    assert fit(tmp_path, method(), Real())["cas/top1"] == 0


def test_crops_lie_in_their_image_each_in_its_own_place():
    """Of a ramp, whose values tell places: within bounds, of area and aspect as asked; the whole image as a limit."""
    ramp = torch.linspace(0, 1, 32)
    image = torch.stack([ramp.expand(32, 32), ramp.view(-1, 1).expand(32, 32)])[[0, 1, 1]]
    torch.manual_seed(0)
    crops = random_crops(image.expand(200, 3, 32, 32), 16, 0.25)
    assert crops.shape == (200, 3, 16, 16)
    left, right = crops[:, 0, :, 0].mean(1), crops[:, 0, :, -1].mean(1)
    top, bottom = crops[:, 1, 0].mean(1), crops[:, 1, -1].mean(1)
    width, height = (right - left) * 16 / 15 * 31, (bottom - top) * 16 / 15 * 31  # in pixels, between centres
    share = width * height / 32**2
    assert 0.2 < share.min() < 0.32
    assert 0.85 < share.max() < 1.05
    assert ((width / height) < 1.45).all()
    assert ((width / height) > 0.69).all()
    assert left.std() > 0.1
    assert top.std() > 0.1
    flat = random_crops(torch.full((2, 3, 9, 9), 0.3), 4, 1.0)
    torch.testing.assert_close(flat, torch.full((2, 3, 4, 4), 0.3))


@pytest.mark.parametrize("side", [5, 16, 40])
def test_crops_are_torchvisions_of_each_image(side: int):
    """Smaller, of about the same size, and larger than what they are of; the same random numbers are drawn."""
    images = torch.rand(7, 3, 24, 21, generator=torch.Generator().manual_seed(0))
    transform = RandomResizedCrop(side, (0.1, 1.0), antialias=True)
    torch.manual_seed(1)
    expected, following = torch.stack([transform(image) for image in images]), torch.rand(1)
    torch.manual_seed(1)
    torch.testing.assert_close(random_crops(images, side, 0.1), expected, atol=2e-6, rtol=0)
    assert torch.equal(torch.rand(1), following)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(random_crops(images, side, 0.1), expected, atol=2e-6, rtol=0)


def test_weights_that_are_sharded_are_one_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"FullySharded: ClassificationAccuracyScore shards no weights: take ddp$"):
        fit(tmp_path, method(), Real(), strategy=FullySharded())


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path):
    def run(folder: Path, steps: int, **more: Any) -> dict[str, Any]:
        trainer = tiny.trainer(folder, steps, StepCheckpoint(every_n_steps=1), **more)
        module = method()
        torch.manual_seed(0)
        last = folder / "checkpoints" / "step=00000001.ckpt"
        trainer.fit(module, Real(), ckpt_path=str(last) if last.exists() else None)
        return module.state_dict()

    whole = run(tmp_path / "whole", 3)
    run(tmp_path / "parts", 1)
    tiny.assert_same(run(tmp_path / "parts", 3), whole)


def test_the_networks_are_torchvisions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked: dict[str, Any] = {}

    def get_model(name: str, **arguments: Any) -> nn.Module:
        asked.update(arguments, name=name)
        return Tiny(**arguments)

    monkeypatch.setattr(models, "get_model", get_model)
    fit(tmp_path, method(network="resnet50"), Real())
    assert asked == {"name": "resnet50", "weights": None, "num_classes": 3}


@pytest.mark.parametrize(
    ("changes", "arguments", "words"),
    [
        ({"num_classes": None}, {}, "has none: set --data.labels true"),
        ({"tested_on": None}, {}, "there are none: set --data.val_root"),
        ({}, {"crop": 9}, r"--model.crop is 9, the images have 8 px"),
    ],
)
def test_data_that_cannot_be_scored_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], arguments: dict[str, Any], words: str
):
    for name, value in changes.items():
        monkeypatch.setattr(Real, name, value)
    with pytest.raises(InputError, match=words) as error:
        fit(tmp_path, method(**arguments), Real())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arguments", [{"network": "resnet"}, {"crop": 0}, {"crop_area": 0.0}, {"crop_area": 1.1}])
def test_values_out_of_range_are_refused(arguments: dict[str, Any]):
    tiny.refusal(lambda: ClassificationAccuracyScore(**arguments), "--model.")


# Samples in the place of real images


def draw(folder: Path, labels: Sequence[int], side: int = 8, below: Sequence[str] | None = None) -> Path:
    """Plain images of these colours, in class folders or beside a dataset.json."""
    folder.mkdir(parents=True)
    for number, label in enumerate(labels):
        name = f"{number:06d}.png" if below is None else f"{below[label]}/{number:06d}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        pixels = np.zeros((side, side, 3), np.uint8)
        pixels[..., label % 3] = 220
        Image.fromarray(pixels).save(folder / name)
    if below is None:
        told = [[f"{number:06d}.png", label] for number, label in enumerate(labels)]
        (folder / "dataset.json").write_text(json.dumps({"labels": told}))
    return folder


def samples(root: Path, **changes: Any) -> SampleFolder:
    real = Real(8)
    for name, value in changes.items():
        setattr(real, name, value)
    return SampleFolder(str(root), real, num_workers=0)


def test_it_trains_on_samples_and_tests_on_real_images(tmp_path: Path):
    data = samples(draw(tmp_path / "samples", [0, 1, 2, 2]), tested_on=Plain(7))
    assert data.num_classes == 3
    assert data.batch_size == 6
    assert len(data.train_source) == 4
    assert len(data.val_source) == 7  # type: ignore[arg-type]
    values = fit(tmp_path / "run", method(), data, 25)
    assert values["cas/top1"] == 1


def test_class_folders_count_by_their_names_in_the_real_data(tmp_path: Path):
    """There blue is class 0, though the folders of samples alone would be numbered otherwise."""
    root = draw(tmp_path / "samples", [0, 1, 2], below=("z_blue", "green", "red"))
    data = samples(root, class_names=("z_blue", "green", "red"))
    batch = data.train_source.read(range(3))
    assert batch["image"].amax(dim=(2, 3)).argmax(dim=1).tolist() == batch["label"].tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("labels", "side", "below", "words"),
    [
        ([0, 1, 3], 8, None, "holds samples of class '3', which the real data lack"),
        ([0, 1, 1], 8, None, "holds no sample of class '2' of the real data"),
        ([0, 1, 2], 16, None, "has 16 x 16 px, the real data 8"),
        ([0, 1, 2], 8, ("blue", "green", "rot"), "holds samples of class 'rot', which the real data lack"),
        ([0, 1, 2], 8, (".", ".", "."), "does not tell the classes of its samples"),
    ],
)
def test_samples_that_do_not_suit_are_one_line(
    tmp_path: Path, labels: list[int], side: int, below: tuple[str, ...] | None, words: str
):
    root = draw(tmp_path / "samples", labels, side, below)
    data = samples(root, class_names=COLOURS if below else ())
    tiny.refusal(lambda: data.train_source, words, "samples")


def test_real_data_without_labels_are_refused(tmp_path: Path):
    root = draw(tmp_path / "samples", [0, 1, 2])
    data = SampleFolder(str(root), ImageFolder(str(root), 8), num_workers=0)
    tiny.refusal(lambda: data.train_source, "the real data have no labels")
