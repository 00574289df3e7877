"""What of pairs is checked before training, and what takes the place of a pair that cannot be used."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pair_files import everything, pairs_of
from PIL import Image

from tenshot.datamodules import Paired, paired
from tenshot.datamodules.pairs import source
from tenshot.errors import InputError


def complaint(*arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        everything(Paired(*arguments, **({"image_size": 16, "num_workers": 0} | options)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_of_many_pairs_another_takes_the_place_of_one_that_is_broken(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(paired, "MOST_IN_MEMORY", 0)
    for name in ("image", "mask"):
        (tmp_path / name).mkdir()
        for file in (faces / name).iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    (tmp_path / "image" / "04.png").write_bytes(b"no image")
    module = pairs_of(tmp_path, conditions=str(tmp_path / "mask"))
    found = everything(module)
    whole = everything(pairs_of(faces))
    (number,) = (whole["condition_image"] == found["condition_image"][4]).flatten(1).all(1).nonzero().flatten().tolist()
    assert number != 4
    assert torch.equal(found["image"][4], whole["image"][number])
    again = pickle.loads(pickle.dumps(module.train_source))
    assert torch.equal(again.read([4])["image"][0], found["image"][4])
    assert any("04.png" in one.message and "takes its place (1 of" in one.message for one in caplog.records)
    monkeypatch.setattr(paired, "MOST_IN_MEMORY", 1000)
    with pytest.raises(InputError, match=r"04\.png is not an image"):
        pairs_of(tmp_path, conditions=str(tmp_path / "mask")).setup("fit")


def test_some_of_many_masks_are_looked_at_before_training(faces: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paired, "MOST_IN_MEMORY", 0)
    with pytest.raises(InputError, match="has colours"):
        pairs_of(faces, conditions=str(faces / "image")).setup("fit")
    monkeypatch.setattr(source, "SOME", 3)
    read: list[int] = []
    once = source.PairSource.pair
    monkeypatch.setattr(source.PairSource, "pair", lambda self, number: (read.append(number), once(self, number))[1])
    pairs_of(faces).setup("fit")
    assert read == [0, 4, 8]


def test_shapes_that_differ_are_refused(tmp_path: Path):
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    photo, mask = tmp_path / "photos" / "a.png", tmp_path / "masks" / "a.png"
    Image.new("RGB", (60, 40)).save(photo)
    options: dict[str, Any] = {"conditions": str(tmp_path / "masks"), "shots": 1}
    for size, fits in (((60, 40), True), ((30, 20), True), ((31, 20), True), ((40, 60), False), ((60, 50), False)):
        Image.new("L", size).save(mask)
        if fits:
            everything(Paired(str(photo.parent), **options, image_size=16, num_workers=0))
        else:
            message = complaint(str(photo.parent), **options)
            assert f"{mask} is {size[0]} x {size[1]}, another shape than {photo} with 60 x 40" in message
    Image.new("L", (32, 32)).save(mask)  # squashed before, as PITI's sketches are
    everything(Paired(str(photo.parent), **options, image_size=16, num_workers=0))
    assert "another shape" in complaint(str(photo.parent), **options, convention="adm")


def test_palette_pngs_must_agree(tmp_path: Path):
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for number, colours in enumerate(([0, 0, 0, 9, 9, 9], [9, 9, 9, 0, 0, 0])):
        Image.new("RGB", (16, 16)).save(tmp_path / "photos" / f"{number}.png")
        mask = Image.fromarray(np.eye(16, dtype=np.uint8), "P")
        mask.putpalette(colours)
        mask.save(tmp_path / "masks" / f"{number}.png")
    assert "1.png and another palette PNG colour index 0 differently" in complaint(
        str(tmp_path / "photos"), conditions=str(tmp_path / "masks")
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shots": 13}, "--data.shots is 13, but"),
        ({"shots": 0}, "--data.shots is 0: choose at least 1"),
        ({"condition_size": 0}, "--data.condition_size is 0"),
        ({"edge_sigma": float("nan")}, "--data.edge_sigma is nan"),
        ({"val_fraction": 1.0}, "--data.val_fraction is 1.0"),
        ({"val_fraction": 0.9999}, "leaves no pair"),
        ({"val_fraction": 0.1, "val_pairs": "x"}, "drop one"),
        ({"colours": "x"}, "--data.label_map colours"),
        ({"condition": "geometry"}, "--data.conditions names 1, geometry is of normals, depth: give 2"),
        ({"condition": "geometry", "conditions": None, "suffix": "_n"}, "--data.suffix names 1"),
    ],
)
def test_options_that_cannot_be(faces: Path, options: dict[str, Any], words: str):
    with pytest.raises(InputError) as caught:
        everything(pairs_of(faces, **options))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_single_pair_needs_to_be_asked_for(faces: Path, tmp_path: Path):
    (tmp_path / "a.txt").write_text("05.png\n")
    with pytest.raises(InputError, match=r"single pair \(05\.png\)"):
        pairs_of(faces, pairs=str(tmp_path / "a.txt")).setup("fit")
    assert len(everything(pairs_of(faces, pairs=str(tmp_path / "a.txt"), shots=1))["image"]) == 1


def test_without_scikit_image_sketches_cannot_be_made(faces: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tenshot\[sketches\]"):
        pairs_of(faces, condition="sketch", conditions=None).setup("fit")
    everything(pairs_of(faces, condition="sketch", conditions=str(faces / "sketch")))
