import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.batches import Batch, Source
from tenshot.errors import InputError


class Patches:
    """Image i: channel c, row y, column x holds 20 i + 9 c + 4 y + x; the condition is as stated."""

    def __init__(self, count: int, condition: torch.dtype | None = None) -> None:
        self.condition = condition
        self.images = (
            20 * torch.arange(count).view(-1, 1, 1, 1)
            + 9 * torch.arange(3).view(-1, 1, 1)
            + 4 * torch.arange(2).view(-1, 1)
            + torch.arange(2)
        ).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        return f"{len(self)} patches"

    def read(self, indices: Sequence[int]) -> Batch:
        images = self.images[list(indices)]
        batch = {"image": images, "label": torch.tensor(list(indices))}
        if self.condition == torch.uint8:
            batch["map"] = 255 - images[:, :1]
        elif self.condition == torch.int64:
            batch["map"] = images[:, 0].long()
        return batch


class PatchImages(ImageDataModule):
    def __init__(self, train: Source, val: Source | None = None, **options: Any) -> None:
        super().__init__(**({"batch_size": 3, "image_size": 2, "seed": 0, "flip": True, "num_workers": 0} | options))
        self.train, self.val = train, val

    def sources(self) -> tuple[Source, Source | None]:
        return self.train, self.val


class Recorder(LightningModule):
    """Keeps the batches it is trained and validated on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained: list[Tensor] = []
        self.validated: list[int] = []

    def training_step(self, batch: Batch) -> Tensor:
        self.trained.append(batch["image"])
        return (self.weight * batch["image"]).sum()

    def validation_step(self, batch: dict[str, Any]) -> None:
        self.validated += batch["condition"]["label"].tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **options,
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("accumulate", "epoch"), [(1, None), (2, None), (2, 4)])
def test_a_resumed_run_sees_the_batches_it_would_have_seen(
    tmp_path: Path, workers: int, accumulate: int, epoch: int | None
):
    """``epoch``: batches after which Lightning starts a new epoch, and so a new iteration; endless by default."""

    def fit(steps: int, resume: Path | None = None) -> list[Tensor]:
        module = Recorder()
        keep = ModelCheckpoint(tmp_path / f"{resume is None}", "{step}", every_n_train_steps=3, save_top_k=-1)
        trainer(
            tmp_path,
            max_steps=steps,
            accumulate_grad_batches=accumulate,
            limit_train_batches=epoch,
            callbacks=[keep],
        ).fit(module, PatchImages(Patches(7), num_workers=workers), ckpt_path=resume)
        return module.trained

    whole = fit(6)
    resumed = fit(6, tmp_path / "True" / "step=3.ckpt")
    assert len(whole) == 6 * accumulate
    assert len(resumed) == 3 * accumulate
    torch.testing.assert_close(resumed, whole[3 * accumulate :], rtol=0, atol=0)
    assert len({tuple(batch.flatten().tolist()) for batch in whole}) == len(whole)  # no part of the stream comes twice


def test_rank_and_world_size_come_from_the_trainer():
    alone = PatchImages(Patches(7), Patches(7), batch_size=6)
    joint = next(iter(alone.train_dataloader()))
    parts, validated = [], []
    for rank in range(2):
        data = PatchImages(Patches(7), Patches(7), batch_size=3)
        data.trainer = SimpleNamespace(
            global_rank=rank, world_size=2, global_step=0, accumulate_grad_batches=1, overfit_batches=0
        )
        parts.append(next(iter(data.train_dataloader()))["image"])
        validated += [label for batch in data.val_dataloader() for label in batch["label"].tolist()]
    torch.testing.assert_close(torch.cat(parts), joint["image"])
    assert sorted(validated) == list(range(7))


def test_fewer_validation_images_than_ranks_are_refused():
    data = PatchImages(Patches(7), Patches(2))
    data.trainer = SimpleNamespace(global_rank=2, world_size=3)
    with pytest.raises(InputError, match=r"fewer validation images \(2 patches\) than processes \(3\)") as caught:
        data.val_dataloader()
    assert "\n" not in str(caught.value)
    data.trainer.world_size = 2
    data.val_dataloader()


def test_validation_sees_every_image_once_and_none_mirrored(tmp_path: Path):
    module, data = Recorder(), PatchImages(Patches(3), Patches(7))
    trainer(tmp_path, max_steps=2, val_check_interval=2, check_val_every_n_epoch=None).fit(module, data)
    assert module.validated == list(range(7))
    assert all("flip" not in batch for batch in data.val_dataloader())


def test_without_validation_images_nothing_is_validated(tmp_path: Path):
    module, data = Recorder(), PatchImages(Patches(3))
    with warnings.catch_warnings(record=True) as caught:
        trainer(tmp_path, max_steps=2, val_check_interval=1, check_val_every_n_epoch=None).fit(module, data)
    assert not [warning for warning in caught if "zero" in str(warning.message)]
    assert data.val_dataloader() == []
    assert module.validated == []


@pytest.mark.parametrize("condition", [torch.uint8, torch.int64])
def test_the_device_side_mirrors_and_rescales(condition: torch.dtype):
    source = Patches(2, condition)
    data = PatchImages(source)
    batch = source.read([0, 1]) | {"flip": torch.tensor([False, True])}
    raw = {key: value.clone() for key, value in batch.items()}

    out = data.on_after_batch_transfer(batch, 0)

    assert set(out) == {"image", "condition"}
    assert set(out["condition"]) == {"label", "map"}
    assert out["image"].dtype == torch.float32
    for sample, columns in ((0, (0, 1)), (1, (1, 0))):
        for column, taken in enumerate(columns):
            torch.testing.assert_close(
                out["image"][sample, ..., column], raw["image"][sample, ..., taken].float() * 2 / 255 - 1
            )
            expected = raw["map"][sample, ..., taken]
            if condition == torch.uint8:
                expected = expected.float() * 2 / 255 - 1
            torch.testing.assert_close(out["condition"]["map"][sample, ..., column], expected)
    torch.testing.assert_close(out["condition"]["label"], raw["label"])


def test_the_range_ends_are_exact():
    image = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    out = PatchImages(Patches(1)).on_after_batch_transfer({"image": image}, 0)["image"]
    assert out[0, 0, 0].tolist() == [-1.0, 1.0]


def test_preview_shows_the_first_training_images():
    data = PatchImages(Patches(4))
    torch.testing.assert_close(data.preview(3), Patches(4).images[:3].float() * 2 / 255 - 1)
    assert len(data.preview(9)) == 4


def test_setup_says_what_was_found(caplog: pytest.LogCaptureFixture):
    data = PatchImages(Patches(4), Patches(2), seed=5)
    with caplog.at_level(logging.INFO):
        data.setup("fit")
        data.setup("validate")
    (line,) = [record.message for record in caplog.records if "PatchImages" in record.message]
    assert "4 patches" in line
    assert "2 x 2" in line
    assert "seed 5" in line
    assert "2 patches" in line


@pytest.mark.parametrize(("option", "value"), [("batch_size", 0), ("image_size", 0), ("seed", -1), ("num_workers", -1)])
def test_numbers_out_of_range_are_refused_by_name(option: str, value: int):
    with pytest.raises(InputError, match=rf"--data\.{option} is {value}: choose at least") as caught:
        PatchImages(Patches(1), **{option: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_overfitting_repeats_the_first_micro_batches_mirrored_alike(tmp_path: Path, workers: int):
    """Lightning opens the loader anew for each epoch, which must not go on in the stream."""
    data, module = PatchImages(Patches(50), seed=4, num_workers=workers), Recorder()
    trainer(tmp_path, max_steps=5, overfit_batches=2, enable_checkpointing=False).fit(module, data)
    plain = Recorder()
    trainer(tmp_path, max_steps=2, enable_checkpointing=False).fit(plain, PatchImages(Patches(50), seed=4))
    assert not torch.equal(*plain.trained)
    assert len(module.trained) == 5
    for number, images in enumerate(module.trained):
        torch.testing.assert_close(images, plain.trained[number % 2], rtol=0, atol=0)
