"""Paired: pairs stay together in resizing, mirroring and choosing."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pair_files import COUNT, drawn, everything, pairs_of
from PIL import Image

from tenshot.datamodules import FewShot, Paired, SyntheticFaces, paired
from tenshot.datamodules.faces import REGIONS
from tenshot.datamodules.pairs import classes_of, colours_of, distance_map, source
from tenshot.errors import InputError

KINDS = {
    "mask": (["mask"], 3), "sketch": (["sketch"], 1), "depth": (["depth"], 3), "normals": (["normal"], 3),
    "geometry": (["normal", "depth"], 6),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_drawn_faces_give_the_same(faces: Path, kind: str):
    folders, channels = KINDS[kind]
    module = pairs_of(faces, condition=kind, conditions=[str(faces / name) for name in folders])
    found = everything(module)
    expected = drawn(pairs=kind)
    assert module.condition_channels == SyntheticFaces(pairs=kind).condition_channels == channels
    assert found["condition_image"].shape == (COUNT, channels, 32, 32)
    assert found["condition_image"].dtype == torch.uint8
    assert torch.equal(found["image"], expected["image"])
    assert torch.equal(found["condition_image"], expected["condition_image"])


def test_read_each_time_they_are_the_same(faces: Path, monkeypatch: pytest.MonkeyPatch):
    kept = everything(pairs_of(faces, image_size=16))
    monkeypatch.setattr(paired, "MOST_IN_MEMORY", 0)
    module = pairs_of(faces, image_size=16)
    assert all(torch.equal(value, kept[name]) for name, value in everything(module).items())
    assert isinstance(module.train_source, source.PairSource)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_is_mirrored_together_and_its_condition_stays_bytes(faces: Path, num_workers: int):
    module = pairs_of(faces, num_workers=num_workers, seed=1)
    whole = everything(pairs_of(faces))
    raw = module.train_stream().batch(0)
    batch = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    condition = batch["condition"]["condition_image"]
    assert condition.dtype == torch.uint8
    assert batch["image"].dtype == torch.float32
    assert 0 < raw["flip"].sum() < 4
    for mirrored, image, mask in zip(raw["flip"], batch["image"], condition, strict=True):
        image, mask = (image.flip(-1), mask.flip(-1)) if mirrored else (image, mask)
        (number,) = (whole["condition_image"] == mask).flatten(1).all(1).nonzero().flatten().tolist()
        torch.testing.assert_close(image, whole["image"][number].float() / 127.5 - 1)


@pytest.mark.parametrize("of_files", [False, True])
def test_mirrored_normals_point_to_the_other_side_and_none_stay_none(faces: Path, of_files: bool):
    module: Any = SyntheticFaces(image_size=32, num_images=COUNT, pairs="geometry")
    if of_files:
        module = pairs_of(faces, condition="geometry", conditions=[str(faces / "normal"), str(faces / "depth")])
    before = module.train_source.read([0, 0])
    before["condition_image"][:, :3, :2] = 0  # pixels without a normal
    plain = before["condition_image"][0].clone()
    batch = module.on_after_batch_transfer(before | {"flip": torch.tensor([False, True])}, 0)
    same, turned = batch["condition"]["condition_image"]
    assert torch.equal(same, plain)
    assert torch.equal(turned[1:], plain[1:].flip(-1))
    assert (turned[:3, :2] == 0).all()
    assert torch.equal(turned[0, 2:], 255 - plain[0, 2:].flip(-1))


@pytest.mark.parametrize("convention", ["piti", "adm", "cdc"])
@pytest.mark.parametrize("size", [(96, 64), (50, 75)])
def test_image_and_mask_show_the_same_part(tmp_path: Path, convention: str, size: tuple[int, int]):
    """Every pixel of the image has the colour of its mask, but where two classes meet."""
    rng = np.random.default_rng(3)
    blocks = Image.fromarray(rng.integers(0, 20, (4, 5), dtype=np.uint8))
    classes = np.array(blocks.resize(size, Image.Resampling.NEAREST))
    colours = colours_of(torch.from_numpy(classes) + 1).permute(1, 2, 0).numpy()
    for folder, shown in (("photos", colours), ("masks", classes)):
        (tmp_path / folder).mkdir()
        Image.fromarray(shown).save(tmp_path / folder / "a.png")
    found = everything(
        Paired(
            str(tmp_path / "photos"), conditions=str(tmp_path / "masks"), shots=1, image_size=32, num_workers=0,
            convention=convention,
        )  # type: ignore[arg-type]
    )  # fmt: skip
    image, mask = found["image"][0].int(), found["condition_image"][0].int()
    assert ((image - mask).abs().sum(0) < 40).float().mean() > 0.6
    shifted = (image[:, 3:, 3:] - mask[:, :-3, :-3]).abs().sum(0) < 40
    assert shifted.float().mean() < 0.55


def test_the_condition_has_a_size_of_its_own(faces: Path):
    found = everything(pairs_of(faces, image_size=16, condition_size=32))
    assert found["image"].shape[-2:] == (16, 16)
    assert torch.equal(found["condition_image"], everything(pairs_of(faces))["condition_image"])
    faces_of = SyntheticFaces(image_size=16, num_images=COUNT, pairs="mask", condition_size=32)
    assert torch.equal(faces_of.train_source.read([3])["condition_image"][0], found["condition_image"][3])
    regions = classes_of(found["condition_image"])
    assert set(regions.unique().tolist()) <= set(range(len(REGIONS)))


def test_sketches_are_made_of_the_images(faces: Path):
    found = everything(pairs_of(faces, condition="sketch", conditions=None))["condition_image"]
    contours = everything(pairs_of(faces, condition="sketch", conditions=str(faces / "sketch")))["condition_image"]
    assert found.shape == contours.shape == (COUNT, 1, 32, 32)
    near = ((found == 0) & (contours <= 16)).sum() / (found == 0).sum()
    assert near > 0.7  # within two pixels of a contour


def test_the_same_pairs_are_chosen_and_recorded(faces: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        module = pairs_of(faces, shots=5, val_fraction=0.3, seed=2)
        record = module.data_record()
    train, val = record["train"]["names"], record["val"]["names"]
    assert len(train) == 5
    assert val
    assert not set(train) & set(val)
    assert pairs_of(faces, shots=5, val_fraction=0.3, seed=2).data_record() == record
    assert set(pairs_of(faces, shots=3, val_fraction=0.3, seed=2).data_record()["train"]["names"]) < set(train)
    like = FewShot(str(faces / "image"), shots=4, seed=3, image_size=16).data_record()["train"]["names"]
    assert pairs_of(faces, shots=4, seed=3).data_record()["train"]["names"] == like != sorted(train)[:4]
    line = next(one.message for one in caplog.records if one.message.startswith("Paired: 5 of 12 pairs"))
    assert f"validation: {len(val)} pairs" in line
    assert module.val_source is not None
    assert torch.equal(
        module.val_source.read([0])["condition_image"][0],
        everything(pairs_of(faces))["condition_image"][int(val[0].removesuffix(".png"))],
    )


def test_a_run_goes_on_with_the_pairs_it_began_with(faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name in ("image", "mask"):
        (tmp_path / name).mkdir()
        for number in range(6):
            (tmp_path / name / f"{number}.png").write_bytes((faces / name / f"{number:02}.png").read_bytes())
    first = pairs_of(tmp_path, shots=3, conditions=str(tmp_path / "mask"))
    before, record = everything(first), first.data_record()
    for number in range(6, 12):
        for name in ("image", "mask"):
            (tmp_path / name / f"{number}.png").write_bytes((faces / name / f"{number:02}.png").read_bytes())
    resumed = pairs_of(tmp_path, shots=3, conditions=str(tmp_path / "mask"))
    resumed.recorded = record
    assert torch.equal(everything(resumed)["condition_image"], before["condition_image"])
    assert resumed.data_record() == record
    chosen = record["train"]["names"][0]
    (tmp_path / "mask" / chosen).write_bytes((faces / "mask" / "11.png").read_bytes())
    changed = pairs_of(tmp_path, shots=3, conditions=str(tmp_path / "mask"))
    changed.recorded = record
    with caplog.at_level(logging.INFO):
        changed.setup("fit")
    assert any(f"{chosen}: changed since" in one.message for one in caplog.records)
    (tmp_path / "mask" / chosen).unlink()
    without = pairs_of(tmp_path, shots=3, conditions=str(tmp_path / "mask"))
    without.recorded = record
    with pytest.raises(InputError, match=f"{chosen}: missing, but the run began with it"):
        without.setup("fit")


def test_validation_pairs_of_their_own(faces: Path, tmp_path: Path):
    place = {"val_root": str(faces / "image"), "val_conditions": str(faces / "mask")}
    module = pairs_of(faces, shots=2, **place)
    assert sum(len(batch["condition_image"]) for batch in module.val_dataloader()) == COUNT
    without = pairs_of(faces, shots=2)
    without.recorded = module.data_record()
    assert without.val_source is None
    (tmp_path / "val.txt").write_text("03.png\n07.png\n")
    module = pairs_of(faces, val_pairs=str(tmp_path / "val.txt"))
    (batch,) = module.val_dataloader()
    assert torch.equal(batch["condition_image"], everything(module)["condition_image"][[3, 7]])
    for kind in ("mask", "sketch"):  # sketches are not made where those of training are drawn
        with pytest.raises(InputError, match=r"--data\.val_conditions"):
            pairs_of(faces, condition=kind, conditions=str(faces / kind), val_root=str(faces / "image")).setup("fit")


def test_drawn_sketches_are_distances_to_the_contours():
    options: dict[str, Any] = {"image_size": 16, "num_images": 4, "condition": "sketch", "pairs": "sketch"}
    batch = SyntheticFaces(**options).train_source.read(range(4))
    assert torch.equal(batch["condition_image"], distance_map(batch["sketch"] > 0))
