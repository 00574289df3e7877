from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from tenshot.datamodules import ImageFolder, Samples
from tenshot.datamodules.conditions import Conditions
from tenshot.errors import InputError

SIX = SimpleNamespace(num_classes=6)


def labels(conditions: Conditions | None, rank: int, world_size: int, batch_size: int) -> list[tuple[int, Any]]:
    samples = Samples(20, batch_size, skip=[4], conditions=conditions)
    samples.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, lightning_module=SIX)  # type: ignore[assignment]
    pairs: list[tuple[int, Any]] = []
    for batch in samples.predict_dataloader():
        given = batch["condition"]["label"].tolist() if "condition" in batch else [None] * len(batch["index"])
        pairs += zip(batch["index"].tolist(), given, strict=True)
    return pairs


@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (7, 2), (64, 3)])
@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (Conditions("images", label=5), lambda index: 5),
        (Conditions("images", labels="uniform"), lambda index: index % 6),
        (Conditions("images", labels="random"), lambda index: None),
        (Conditions("images"), lambda index: None),
        (None, lambda index: None),
    ],
)
def test_the_condition_is_a_function_of_the_number(
    conditions: Conditions | None, expected: Any, batch_size: int, world_size: int
):
    shares = [labels(conditions, rank, world_size, batch_size) for rank in range(world_size)]
    assert sorted(pair for share in shares for pair in share) == [(i, expected(i)) for i in range(20) if i != 4]


@pytest.mark.parametrize(
    ("label", "choice", "method", "told"),
    [
        (6, None, SIX, "--grid.label is 6: the model has 6 classes, choose one of 0 … 5"),
        (-1, None, SIX, "--grid.label is -1: classes are numbered from 0"),
        (0, "uniform", SIX, "--grid.label 0 and --grid.labels uniform exclude each other"),
        (1, "random", SIX, "--grid.label 1 and --grid.labels random exclude each other"),
        (0, None, SimpleNamespace(num_classes=None), "--grid.label chooses classes, but this SimpleNamespace has none"),
        (None, "uniform", SimpleNamespace(), "--grid.labels chooses classes, but this SimpleNamespace has none"),
    ],
)
def test_what_cannot_be_drawn_is_refused(label: int | None, choice: Any, method: Any, told: str):
    with pytest.raises(InputError) as caught:
        Conditions("grid", label, choice).of(method)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_are_int64_on_any_number():
    for conditions in (Conditions("images", label=5), Conditions("images", labels="uniform")):
        condition_of = conditions.of(SIX)
        assert condition_of is not None
        assert condition_of(torch.arange(3))["label"].dtype == torch.int64


def test_the_classes_of_training_images_are_known_without_reading_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of those that are not held out, in their order."""
    monkeypatch.setenv("TENSHOT_CACHE", str(tmp_path / "cache"))
    for number in range(20):
        folder = tmp_path / "images" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    data = ImageFolder(str(tmp_path / "images"), 8, labels=True, val_fraction=0.3, num_workers=0)
    source = data.train_source
    assert 2 < len(source) < 20
    told = data.train_classes()
    assert told is not None
    assert torch.equal(told, source.read(range(len(source)))["label"])
    assert ImageFolder(str(tmp_path / "images"), 8, num_workers=0).train_classes() is None


def test_samples_take_the_classes_of_training_images_in_turn():
    class Six(ImageFolder):
        def __init__(self) -> None:
            pass

        def train_classes(self) -> torch.Tensor:
            return torch.tensor([4, 0, 5])

    conditions = Conditions("images", labels="data").with_classes_of(Six())
    condition_of = conditions.of(SIX)
    assert condition_of is not None
    assert condition_of(torch.tensor([0, 2, 4]))["label"].tolist() == [4, 5, 0]
    assert conditions.count(SIX) == 3
    assert conditions.recorded != Conditions("images", labels="data").recorded
    with pytest.raises(InputError, match="the data have 6 classes, the model 4"):
        conditions.of(SimpleNamespace(num_classes=4))
    with pytest.raises(InputError, match="is for predict and test alone"):
        Conditions("grid", labels="data").of(SIX)
