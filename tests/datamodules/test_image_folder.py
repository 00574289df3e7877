import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from skimage import data

from tenshot.datamodules import ImageFolder
from tenshot.datamodules.batches import EndlessBatches, Source
from tenshot.datamodules.reading import read_image
from tenshot.errors import InputError


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six crops of two photographs in class folders, one of them nested."""
    folder = tmp_path_factory.mktemp("animals")
    for kind, pixels in (("dog", data.astronaut()), ("cat", data.chelsea())):
        (folder / kind / "deep").mkdir(parents=True)
        for index in range(3):
            name = f"deep/{index}.png" if index == 2 else f"{index}.png"
            Image.fromarray(pixels[50 * index : 50 * index + 80, :90]).save(folder / kind / name)
    return folder


def complaint(**options: object) -> str:
    with pytest.raises(InputError) as caught:
        ImageFolder(**({"image_size": 32} | options)).setup("fit")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def epoch(module: ImageFolder, count: int) -> torch.Tensor:
    """The images of one round through the training images, in no particular order."""
    images = torch.cat([batch["image"] for batch in islice(module.train_dataloader(), count)])
    return images[images.flatten(1).float().sum(1).argsort()]


def test_training_goes_through_every_image(animals: Path):
    module = ImageFolder(str(animals), image_size=32, batch_size=1, num_workers=0)
    expected = torch.stack([read_image(file, 32) for file in animals.rglob("*.png")])
    torch.testing.assert_close(epoch(module, 6), expected[expected.flatten(1).float().sum(1).argsort()])
    assert module.num_classes is None
    assert "label" not in next(iter(module.train_dataloader()))


def test_labels_are_the_sorted_class_folders(animals: Path):
    module = ImageFolder(str(animals), image_size=32, batch_size=6, labels=True, num_workers=0)
    assert module.class_names == ["cat", "dog"]
    assert module.num_classes == 2
    cats = [read_image(file, 32) for file in (animals / "cat").rglob("*.png")]
    batch = next(iter(module.train_dataloader()))
    assert batch["label"].dtype == torch.int64
    assert sorted(batch["label"].tolist()) == [0, 0, 0, 1, 1, 1]
    for image, label in zip(batch["image"], batch["label"].tolist(), strict=True):
        assert any(torch.equal(image, cat) for cat in cats) == (label == 0)


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_images_are_not_trained_on(animals: Path, seed: int):
    module = ImageFolder(str(animals), 32, batch_size=1, val_fraction=1 / 3, num_workers=0, seed=seed)
    held_out = torch.cat([batch["image"] for batch in module.val_dataloader()])
    assert 0 < len(held_out) < 6
    everything = torch.cat([epoch(module, 6 - len(held_out)), held_out])
    assert len(everything.unique(dim=0)) == 6
    again = ImageFolder(str(animals), 32, batch_size=1, val_fraction=1 / 3, num_workers=0, seed=seed)
    torch.testing.assert_close(torch.cat([batch["image"] for batch in again.val_dataloader()]), held_out)


def test_the_seed_draws_the_held_out_images(animals: Path):
    drawn = set()
    for seed in range(6):
        module = ImageFolder(str(animals), 32, val_fraction=0.3, num_workers=0, seed=seed)
        drawn.add(tuple(int(image.long().sum()) for batch in module.val_dataloader() for image in batch["image"]))
    assert len(drawn) > 1


def test_a_folder_of_its_own_for_validation(animals: Path, tmp_path: Path):
    (tmp_path / "dog").mkdir()
    Image.fromarray(data.coffee()).save(tmp_path / "dog" / "a.jpg")
    module = ImageFolder(str(animals), 32, labels=True, val_root=str(tmp_path), num_workers=0)
    (batch,) = module.val_dataloader()
    assert batch["label"].tolist() == [1]
    assert len(module.train_source) == 6


def test_what_cannot_be_used(animals: Path, tmp_path: Path):
    assert f"{tmp_path}/gone does not exist" in complaint(root=str(tmp_path / "gone"))
    assert f"{tmp_path} holds no images" in complaint(root=str(tmp_path))
    Image.fromarray(data.coffee()).save(tmp_path / "one.jpg")
    message = complaint(root=str(tmp_path))
    assert "single image (one.jpg)" in message
    assert "--data FewShot" in message
    assert "drop one" in complaint(root=str(animals), val_fraction=0.1, val_root=str(animals))
    assert "--data.val_fraction is 1.0" in complaint(root=str(animals), val_fraction=1.0)
    assert "leaves no training image" in complaint(root=str(animals), val_fraction=0.99999)
    Image.fromarray(data.coffee()).save(tmp_path / "two.jpg")
    message = complaint(root=str(tmp_path), labels=True)
    assert f"{tmp_path}/one.jpg lies in no class folder" in message
    assert "drop --data.labels" in message


def test_an_unknown_class_in_validation_is_named(animals: Path, tmp_path: Path):
    (tmp_path / "dogs").mkdir()
    Image.fromarray(data.coffee()).save(tmp_path / "dogs" / "a.jpg")
    message = complaint(root=str(animals), labels=True, val_root=str(tmp_path))
    assert f"{tmp_path}/dogs/a.jpg is of class 'dogs'" in message
    assert "did you mean 'dog'?" in message


class Nothing(LightningModule):
    """Training that needs no gradient to speak of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return (self.weight * batch["image"]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trainer(folder: Path, **options: object) -> Trainer:
    settings = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False,
                "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder}  # fmt: skip
    return Trainer(**(settings | options))  # type: ignore[arg-type]


@pytest.fixture
def spoilt(animals: Path, tmp_path: Path) -> Path:
    """Six photographs in class folders, two of them beyond use, and one in CMYK."""
    root = Path(shutil.copytree(animals, tmp_path / "spoilt"))
    (root / "cat" / "1.png").write_text("not an image")
    (root / "dog" / "0.png").write_bytes((root / "dog" / "0.png").read_bytes()[:3000])
    Image.open(root / "dog" / "1.png").convert("CMYK").save(root / "dog" / "3.jpg")
    (root / "dog" / "1.png").unlink()
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_training_goes_on_past_broken_files(spoilt: Path, workers: int, caplog: pytest.LogCaptureFixture):
    module = ImageFolder(str(spoilt), 32, batch_size=2, num_workers=workers)
    trainer(spoilt, max_steps=10).fit(Nothing(), module)
    lines = sorted(record.getMessage() for record in caplog.records if "takes its place" in record.getMessage())
    assert len(lines) == 2  # each once, however often it comes round, whichever worker met it
    assert lines[0].startswith(f"{spoilt}/cat/1.png is not an image in a known format: replace it or take it out; ano")
    assert f"{spoilt}/dog/0.png cannot be read" in lines[1]
    assert {line[-18:] for line in lines} == {"(1 of at most 100)", "(2 of at most 100)"}


@pytest.mark.parametrize(("ranks", "batch_size"), [(2, 3), (3, 2)])
def test_what_takes_the_place_is_the_same_on_all_ranks_and_after_a_resume(spoilt: Path, ranks: int, batch_size: int):
    def source() -> Source:
        return ImageFolder(str(spoilt), 32, labels=True, num_workers=0).train_source

    alone = EndlessBatches(source(), 6, seed=4, flip=True)
    whole = [alone.batch(step) for step in range(4)]
    for step in (2, 3, 0, 1):  # whatever was met before
        shares = [EndlessBatches(source(), batch_size, 4, True, rank, ranks).batch(step) for rank in range(ranks)]
        for name, expected in whole[step].items():
            assert torch.equal(torch.cat([share[name] for share in shares]), expected)
    usable = {
        read_image(file, 32).long().sum().item(): file.relative_to(spoilt).parts[0]
        for file in spoilt.rglob("*.*")
        if file.name not in ("1.png", "0.png") or file.parent.name + file.name == "cat0.png"
    }
    for batch in whole:
        for image, label in zip(batch["image"], batch["label"], strict=True):
            assert usable[image.long().sum().item()] == ["cat", "dog"][label]  # with the label of what is shown


def test_validation_images_beyond_use_are_replaced_too(spoilt: Path):
    module = ImageFolder(str(spoilt), 32, val_root=str(spoilt), labels=True, num_workers=0)
    (batch,) = module.val_dataloader()
    assert batch["image"].shape == (6, 3, 32, 32)


@pytest.mark.parametrize("workers", [0, 2])
def test_more_broken_files_than_allowed_stop_training_with_one_line(spoilt: Path, workers: int):
    def fit(limit: int) -> str:
        module = ImageFolder(str(spoilt), 32, batch_size=2, num_workers=workers, max_unusable=limit)
        with pytest.raises(InputError) as caught:
            trainer(spoilt, max_steps=10).fit(Nothing(), module)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "1 others cannot be used either, --data.max_unusable is 1" in fit(1)
    assert fit(0).endswith("replace it or take it out")


def test_a_set_of_nothing_usable_is_one_line(tmp_path: Path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_text("none")
    with pytest.raises(InputError, match=r"png is not an image.*; nor can any of 1000 others drawn in place of one$"):
        ImageFolder(str(tmp_path), 32, num_workers=0).train_source.read([0])


@pytest.mark.parametrize(("ranks", "batch_size"), [(2, 3), (3, 2), (6, 1)])
def test_ranks_share_the_images_disjoint_and_complete(animals: Path, ranks: int, batch_size: int):
    """An epoch of six images: together the ranks see what one sees, in its order."""
    source = ImageFolder(str(animals), 32, labels=True, num_workers=0).train_source
    alone = EndlessBatches(source, 6, seed=4, flip=True)
    for step in range(4):
        shares = [EndlessBatches(source, batch_size, 4, True, rank, ranks).batch(step) for rank in range(ranks)]
        together = {name: torch.cat([share[name] for share in shares]) for name in shares[0]}
        for name, expected in alone.batch(step).items():
            assert torch.equal(together[name], expected)
        assert len(together["image"].unique(dim=0)) == 6
        for rank, share in enumerate(shares):  # resumed at this step, and with the images found anew
            again = ImageFolder(str(animals), 32, labels=True, num_workers=0).train_source
            resumed = next(iter(EndlessBatches(again, batch_size, 4, True, rank, ranks, start=step)))
            assert all(torch.equal(share[name], resumed[name]) for name in share)


class Ranks:
    """What a data module asks of the trainer and its strategy: the other rank has the digests ``first``."""

    world_size, global_rank = 2, 1
    global_step = accumulate_grad_batches = 1

    def __init__(self, first: list[str]) -> None:
        self.first = first
        self.strategy = self

    def broadcast(self, own: list[str]) -> list[str]:
        return self.first

    def reduce_boolean_decision(self, decision: bool, all: bool) -> bool:
        return decision and all


def test_ranks_with_other_images_are_stopped(animals: Path, tmp_path: Path):
    module = ImageFolder(str(animals), 32, num_workers=0)
    module.trainer = Ranks([module.index.digest])  # type: ignore[assignment]
    module.setup("fit")
    copy = ImageFolder(str(shutil.copytree(animals, tmp_path / "copy")), 32, num_workers=0)
    assert copy.index.digest == module.index.digest  # wherever they lie
    (tmp_path / "copy" / "cat" / "0.png").unlink()
    torn = ImageFolder(str(tmp_path / "copy"), 32, num_workers=0)
    torn.trainer = module.trainer
    with pytest.raises(InputError, match=r"copy holds other images on one process than on the first: copy them"):
        torn.setup("fit")
