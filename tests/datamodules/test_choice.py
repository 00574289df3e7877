"""Which images are chosen and held out: one more moves no other, and what a run has recorded stays."""

import copy
import hashlib
import json
import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tenshot.datamodules import FewShot, ImageDataModule, ImageFolder, choice
from tenshot.datamodules.choice import BY_LISTING, first_by_name, held_out_by_name
from tenshot.errors import InputError

NAMES = [f"{number % 7}/{number}.png" for number in range(3000)]


def place(name: str, seed: int) -> float:
    """Where a name lies in [0, 1)."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "big") / 2**64


@pytest.mark.parametrize("seed", [0, 3])
def test_a_name_is_held_out_by_its_hash_alone(seed: int):
    held_out = held_out_by_name(NAMES, seed, 0.1)
    assert held_out.tolist() == [place(name, seed) < 0.1 for name in NAMES]
    assert abs(held_out.mean() - 0.1) < 0.03
    assert (held_out_by_name(["0000.png", *NAMES], seed, 0.1)[1:] == held_out).all()
    assert held_out_by_name(NAMES[:9], seed, 1e-9).tolist() == [
        name == min(NAMES[:9], key=lambda name: place(name, seed)) for name in NAMES[:9]
    ]


def test_shots_are_those_of_the_smallest_hashes():
    chosen = first_by_name(NAMES, 5, 10)
    assert sorted(chosen.tolist()) == chosen.tolist()
    assert {NAMES[row] for row in chosen} == set(sorted(NAMES, key=lambda name: place(name, 5))[:10])
    assert set(first_by_name(NAMES, 5, 4)) < set(chosen)
    more = ["0000.png", *NAMES]
    assert len({more[row] for row in first_by_name(more, 5, 10)} - {NAMES[row] for row in chosen}) <= 1
    assert set(chosen) != set(first_by_name(NAMES, 6, 10))


def image(number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images."""
    (tmp_path / "images").mkdir()
    for number in range(12):
        image(number).save(tmp_path / "images" / f"{number:03d}.png")
    return tmp_path / "images"


def few(folder: Path, **options: object) -> FewShot:
    return FewShot(**({"root": str(folder), "shots": 3, "image_size": 16} | options))  # type: ignore[arg-type]


def many(root: Path, **options: object) -> ImageFolder:
    arguments = {"root": str(root), "image_size": 16, "val_fraction": 0.25, "seed": 1, "num_workers": 0}
    return ImageFolder(**(arguments | options))  # type: ignore[arg-type]


def images(module: ImageDataModule) -> list[torch.Tensor]:
    """Those of training and of validation."""
    every = [source for source in (module.train_source, module.val_source) if source is not None]
    return [source.read(range(len(source)))["image"] for source in every]


def same(ours: ImageDataModule, theirs: list[torch.Tensor]) -> bool:
    found = images(ours)
    return len(found) == len(theirs) and all(map(torch.equal, found, theirs))


def going_on(module: ImageDataModule, before: ImageDataModule) -> ImageDataModule:
    """By what the earlier one recorded, as a file holds it."""
    module.recorded = json.loads(json.dumps(before.data_record()))
    return module


@pytest.mark.parametrize("build", [few, many], ids=["FewShot", "ImageFolder"])
def test_what_is_recorded_is_used_whatever_the_folder_holds(
    folder: Path, tmp_path: Path, build: type[ImageDataModule], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    before = build(folder)  # type: ignore[arg-type]
    kept = images(before)
    for number in range(100, 140):  # so many that the choice would be another
        image(number).save(folder / f"{number:04d}.png")
    record = before.data_record()
    assert not same(build(folder), kept)  # type: ignore[arg-type]
    again = going_on(build(folder), before)  # type: ignore[arg-type]
    assert same(again, kept)
    assert again.data_record() == record
    assert f"{folder} has changed since the run began (12 images then, 52 now): it goes on with its own" in caplog.text

    moved = shutil.move(folder, tmp_path / "moved")
    assert same(going_on(build(moved), before), kept)  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [few, many], ids=["FewShot", "ImageFolder"])
def test_what_is_missing_or_changed_is_named(
    folder: Path, build: type[ImageDataModule], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    before = build(folder)  # type: ignore[arg-type]
    record = before.data_record()
    assert record is not None
    file = folder / record["train"]["names"][1]
    assert record["train"]["sha256"][1] == hashlib.sha256(file.read_bytes()).hexdigest()
    image(77).save(file)
    caplog.clear()
    changed = going_on(build(folder), before)  # type: ignore[arg-type]
    changed.setup()
    assert f"{file}: changed since the run began" in caplog.text
    assert changed.data_record() == record  # and it is said again the next time
    file.unlink()
    with pytest.raises(InputError, match=f"{file}: missing, but the run began with it: put it back") as raised:
        going_on(build(folder), before).setup()  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_another_request_is_a_new_choice(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    before = few(folder)
    before.setup()
    again = going_on(few(folder, shots=5), before)
    assert len(images(again)[0]) == 5
    assert "another choice of images than the run began with (shots 3, now 5)" in caplog.text
    (tmp_path / "other").mkdir()
    for number in range(4):
        image(50 + number).save(tmp_path / "other" / f"x{number}.png")
    assert len(images(going_on(few(tmp_path / "other"), before))[0]) == 3
    assert "chosen anew" in caplog.text


def test_the_validation_images_of_few_shots_are_recorded(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "val")
    before = few(folder, val_root=str(tmp_path / "val"))
    kept = images(before)
    going = copy.deepcopy(before.data_record())
    image(99).save(tmp_path / "val" / "0000.png")
    assert going is not None
    assert same(going_on(few(folder, val_root=str(tmp_path / "val")), before), kept)
    assert len(kept[1]) == len(going["val"]["names"]) == 12


@pytest.mark.parametrize("own", [True, False], ids=["val_root", "no validation"])
def test_a_whole_folder_and_its_validation_images_are_recorded(folder: Path, tmp_path: Path, own: bool):
    shutil.copytree(folder, tmp_path / "val")
    options = {"val_fraction": 0.0, "val_root": str(tmp_path / "val") if own else None}
    before = many(folder, **options)
    kept, record = images(before), before.data_record()
    assert record["train"]["count"] == 12
    assert (record["val"] or {}).get("count") == (12 if own else None)
    for place in (folder, tmp_path / "val"):
        image(99).save(place / "0000.png")
    again = going_on(many(folder, **options), before)
    assert same(again, kept)
    assert again.data_record() == record


@pytest.mark.parametrize("options", [{"seed": 2}, {"val_fraction": 0.5}])
def test_another_request_of_a_folder_is_a_new_choice(folder: Path, options: dict[str, float]):
    again = going_on(many(folder, **options), many(folder))
    assert same(again, images(many(folder, **options)))
    assert again.data_record()["request"] == {"val_fraction": 0.25, "seed": 1} | options


def test_a_run_without_a_record_chooses_as_it_did(folder: Path):
    by_listing = few(folder, seed=4)
    by_listing.rule = BY_LISTING
    drawn = sorted(np.random.default_rng(4).permutation(12)[:3])
    assert by_listing.data_record()["train"]["names"] == [f"{row:03d}.png" for row in drawn]  # type: ignore[index]
    assert by_listing.data_record()["rule"] == BY_LISTING  # type: ignore[index]
    held_out = many(folder, seed=4)
    held_out.rule = BY_LISTING
    drawn = sorted(np.random.default_rng(4).permutation(12)[:3])
    assert held_out.data_record()["val"]["names"] == [f"{row:03d}.png" for row in drawn]  # type: ignore[index]


def test_archives_choose_alike(folder: Path, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    before = many(tmp_path / "a.zip")
    assert same(before, images(many(folder)))
    kept = images(before)
    record = before.data_record()
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        for number in range(200, 240):
            image(number).save(tmp_path / "new.png")
            archive.write(tmp_path / "new.png", f"{number}.png")
    after = many(tmp_path / "a.zip")
    assert len(after.index) == 52
    after.recorded = record
    assert same(after, kept)


def test_of_a_large_set_a_digest_is_recorded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """And what was held out stays so."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(choice, "MOST_NAMED", 2)
    monkeypatch.setattr(choice, "MOST_HASHED", 2)
    before = many(folder, val_fraction=0.5)
    record = before.data_record()
    assert record is not None
    assert "names" not in record["train"]
    assert "sha256" not in record["val"]
    kept = images(before)
    assert same(going_on(many(folder, val_fraction=0.5), before), kept)
    assert "changed" not in caplog.text
    image(300).save(folder / "0000.png")
    after = images(going_on(many(folder, val_fraction=0.5), before))
    assert f"{folder} has changed since the run began (12 images then, 13 now)" in caplog.text
    for was, now in zip(kept, after, strict=True):
        assert all(any(torch.equal(one, other) for other in now) for one in was)


def test_of_a_large_set_names_are_looked_up_only_where_it_has_changed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choice, "MOST_NAMED", 2)
    monkeypatch.setattr(choice, "MOST_HASHED", 1)

    def listed(*names: str) -> choice.Listed:
        return choice.Listed("/set", len(names), choice.digest_of(names), lambda: names, lambda row: b"")

    whole = listed("a", "b", "c")
    part = choice.part_of(whole, [0, 2])
    assert (part["count"], part["of"], part["names"]) == (2, 3, ["a", "c"])
    assert "sha256" not in part
    assert "sha256" in choice.part_of(whole, [1])
    assert "names" not in choice.part_of(whole, None)
    assert choice.recorded_rows(part, whole) is None
    assert choice.recorded_rows(part, listed("0", "a", "b", "c")) == [1, 3]
    few = listed("a", "b")
    assert choice.recorded_rows(choice.part_of(few, [1]), few) == [1]


def test_classes_keep_their_numbers(folder: Path):
    for place, kind in enumerate(("cat", "dog")):
        (folder / kind).mkdir()
        for file in sorted(folder.glob("*.png"))[: 6 if place == 0 else 12]:
            file.rename(folder / kind / file.name)
    before = many(folder, labels=True)
    source = before.train_source
    labels = source.read(range(len(source)))["label"]
    assert before.data_record()["classes"] == ["cat", "dog"]
    (folder / "ant").mkdir()
    for number in range(40):
        image(500 + number).save(folder / "ant" / f"{number}.png")
    assert many(folder, labels=True).class_names == ["ant", "cat", "dog"]
    again = going_on(many(folder, labels=True), before)
    source = again.train_source
    assert torch.equal(source.read(range(len(source)))["label"], labels)
    assert again.num_classes == 2
    assert set(labels.tolist()) == {0, 1}
