"""The network that finds masks, depth and normals: its losses, what it learns, its checkpoints, what it refuses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_piti
import torch
from torch import Tensor

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.checkpoints import PREDICTOR, read
from tenshot.datamodules import ImageDataModule, Paired
from tenshot.datamodules.batches import Batch, Source
from tenshot.datamodules.pairs import ConditionKind, colours_of
from tenshot.lightning_modules import DDPM, DensePredictor

WIDE: dict[str, Any] = {"channel_mult": (1,), "attention_resolutions": ()}
SMALL = WIDE | {"image_size": 8}


def levels(count: int, channels: int, side: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, side, side), generator=generator, dtype=torch.uint8)


def losses(kind: ConditionKind, found: Tensor, condition: Tensor) -> dict[str, float]:
    module = tiny_piti.predictor()
    module.shows = kind
    return {name: value.item() for name, value in module.losses(found, condition).items()}


# Losses


def test_of_masks_it_is_the_cross_entropy_of_the_pixels_that_have_a_class():
    found = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(6, (2, 16, 16), generator=torch.Generator().manual_seed(1))
    loss = losses(ConditionKind("mask", unlabelled=4), found, colours_of(ids))
    logits, classes = found.double().numpy(), ids[:, 1::2, 1::2].numpy() - 1
    rows = [
        np.log(np.exp(logits[n, :, y, x]).sum()) - logits[n, classes[n, y, x], y, x]
        for n, y, x in np.argwhere((classes >= 0) & (classes != 4))
    ]
    assert loss == {"mask": pytest.approx(np.mean(rows), rel=1e-6)}
    assert losses(ConditionKind("mask"), found, colours_of(0 * ids)) == {"mask": 0}  # nothing is labelled


def test_of_geometry_it_is_the_angle_s_and_the_depth_s_error_where_there_are_any():
    found, condition = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), levels(2, 6, 8)
    condition[:, 3:] = condition[:, 3:4]
    condition[:, :3, :2], condition[:, 3:, 5:] = 0, 0
    loss = losses(ConditionKind("geometry"), found, condition)
    a, b = found[:, :3, 2:].double().numpy(), condition[:, :3, 2:].double().numpy() / 127.5 - 1
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    depth, known = condition[:, 3].double().numpy() / 255, condition[:, 3].numpy() > 0
    error = np.abs(found[:, 3].double().numpy() - depth)[known].mean()
    assert loss == {"normals": pytest.approx((1 - cosine).mean(), rel=1e-5), "depth": pytest.approx(error, rel=1e-5)}
    assert losses(ConditionKind("depth"), found[:, 3:], condition[:, 3:])["depth"] == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize(("kind", "outputs"), [("mask", 5), ("depth", 1), ("normals", 3), ("geometry", 4)])
def test_nothing_of_it_is_computed_on_another_device(kind: Any, outputs: int):
    module = tiny_piti.predictor()
    module.shows = ConditionKind(kind, unlabelled=2)
    found, condition = torch.zeros(2, outputs, 8, 8, device="meta"), torch.zeros(2, 6, 16, 16, device="meta").byte()
    condition = condition if kind == "geometry" else condition[:, :3]
    assert all(loss.device.type == "meta" for loss in module.losses(found, condition).values())


# Training


class Painted:
    """Images whose channel that is on says the class of each pixel."""

    def __len__(self) -> int:
        return 8

    def read(self, indices: Sequence[int]) -> Batch:
        classes = torch.stack(
            [torch.randint(3, (8, 8), generator=torch.Generator().manual_seed(index)) for index in indices]
        )
        image = torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).to(torch.uint8) * 255
        return {"image": image, "condition_image": colours_of(classes + 1)}

    def __str__(self) -> str:
        return "painted images"


class PaintedPairs(ImageDataModule):
    condition_kind = ConditionKind("mask", "three colours")  # type: ignore[assignment]
    condition_channels = 3  # type: ignore[assignment]

    def sources(self) -> tuple[Source, Source | None]:
        return Painted(), Painted()


def test_colours_are_learnt_and_validation_says_so(tmp_path: Path):
    torch.manual_seed(0)
    network = tiny.unet_config(**SMALL, out_channels=3)
    module = tiny_piti.predictor(predictor=network, optimizer=tiny.adam(3e-3))
    often = {"val_check_interval": 30, "check_val_every_n_epoch": None, "log_every_n_steps": 1}
    trainer = tiny.trainer(tmp_path, 30, ema=EMA(0.5), **often)
    trainer.fit(module, PaintedPairs(8, 8, 0, flip=True, num_workers=0))
    values = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert values["train/loss"] < 0.2
    assert values["val/loss"] < 0.2
    assert values["val/miou"] > 0.95
    assert values["val/pixel_accuracy"] > 0.95


def test_validation_leaves_out_what_has_no_class(tmp_path: Path):
    module = tiny_piti.predictor(predictor=tiny.unet_config(**SMALL, out_channels=3))  # finds class 0 everywhere
    data = PaintedPairs(3, 8, 0, flip=True, num_workers=0)
    data.condition_kind = ConditionKind("mask", "three colours", unlabelled=2)
    [values] = tiny.trainer(tmp_path, 1).validate(module, data, verbose=False)
    batch = Painted().read(range(8))["image"]
    zeros, ones = int((batch[:, 0] > 0).sum()), int((batch[:, 1] > 0).sum())
    assert values["val/pixel_accuracy"] == pytest.approx(zeros / (zeros + ones), rel=1e-6)
    assert values["val/miou"] == pytest.approx(zeros / (zeros + ones) / 2, rel=1e-6)  # class 2 counts for nothing


def test_a_resumed_run_ends_in_the_same_bits_and_says_what_it_finds(tmp_path: Path):
    def run(folder: Path, steps: int, resume: bool = False) -> dict[str, Any]:
        module = tiny.randomised(tiny_piti.predictor())
        path = max((folder / "checkpoints").glob("*.ckpt")) if resume else None
        trainer = tiny.trainer(folder, steps, StepCheckpoint(every_n_steps=100), ema=EMA(0.9))
        trainer.fit(module, tiny_piti.pairs(), ckpt_path=path)
        return torch.load(folder / "checkpoints" / f"step={steps:08d}.ckpt", weights_only=True)

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "halves", 2)
    torch.manual_seed(12345)
    resumed = run(tmp_path / "halves", 4, resume=True)
    for part in ("state_dict", "optimizer_states", "ema", "tenshot", "global_step"):
        tiny.assert_same(resumed[part], whole[part], part)

    trained = read(str(tmp_path / "whole"), PREDICTOR)
    assert trained.stage["condition"] == "mask"
    assert trained.stage["classes"].startswith("regions of a face: background, clothes")
    further = DensePredictor(init_from=str(tmp_path / "whole"))
    further.configure_model()
    tiny.assert_same(further.predictor.state_dict(), whole["ema"]["weights"]["predictor"])
    tiny.refusal(lambda: DDPM(init_from=str(tmp_path / "whole")).configure_model(), "has no diffusion U-Net")


# What cannot be


@pytest.mark.parametrize(
    ("data", "outputs", "told"),
    [
        ({"pairs": None}, 9, "DensePredictor learns from pairs, the data are none: take --data Paired"),
        ({"pairs": "sketch"}, 1, "edges of samples are compared with sketches without a network"),
        ({"pairs": "mask"}, 8, "the network has 8 outputs (--model.predictor.out_channels), mask of these data 9"),
        ({"pairs": "geometry"}, 3, "the network has 3 outputs (--model.predictor.out_channels), geometry of these"),
        ({"image_size": 32}, 9, "images of 32 px (--data.image_size) for a network of 16 px"),
    ],
)
def test_data_must_suit_the_network(tmp_path: Path, data: dict[str, Any], outputs: int, told: str):
    module = tiny_piti.predictor(predictor=tiny.unet_config(**WIDE, out_channels=outputs))
    tiny.refusal(lambda: tiny.trainer(tmp_path, 1).fit(module, tiny_piti.pairs(**data)), told)


@pytest.mark.parametrize("looked_at", [0, 1000])
def test_a_class_beyond_the_network_s_is_told_before_an_accelerator_meets_it(
    tmp_path: Path, looked_at: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tenshot.lightning_modules.dense_predictor.MOST_LOOKED_AT", looked_at)
    module = tiny_piti.predictor(predictor=tiny.unet_config(**SMALL, out_channels=2))
    data = PaintedPairs(8, 8, 0, flip=True, num_workers=0)
    told = "a mask has class 2, the network 2 classes, numbered from 0: set --model.predictor.out_channels to 3 or more"
    tiny.refusal(lambda: tiny.trainer(tmp_path, 1).fit(module, data), told)


def test_depth_in_colours_and_classes_with_instances_are_refused(tmp_path: Path):
    module = tiny_piti.predictor(predictor=tiny.unet_config(**WIDE, out_channels=1))
    module.shows = ConditionKind("depth")
    colours = {"condition_image": levels(1, 3, 8)}
    tiny.refusal(lambda: module.on_before_batch_transfer(colours, 0), "depth maps in colours")
    instances = Paired("photos", label_map="ade20k_seg", image_size=16)
    assert instances.condition_kind.classes is None
    module.trainer = tiny.trainer(tmp_path, 1)
    module.trainer.datamodule = instances  # type: ignore[attr-defined]
    tiny.refusal(module.on_fit_start, "--data.label_map ade20k_seg has classes and instances in one colour")


def test_it_needs_a_network_and_draws_nothing():
    tiny.refusal(DensePredictor, "give --model.predictor, or weights to start from with --model.init_from")
    tiny.refusal(lambda: tiny_piti.predictor().setup("test"), "draws no images", "--evaluate.predictor")
