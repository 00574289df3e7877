"""Files of conditions to draw from: found by name, read as those of training, and refused as those are."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from pair_files import COUNT, drawn, pairs_of
from PIL import Image

from tenshot.datamodules import FewShot, Paired
from tenshot.datamodules.condition_files import ConditionFiles, condition_files, sha256_of
from tenshot.datamodules.conditions import Conditions
from tenshot.datamodules.samples import MOST, SeedBatches

OPTION = "--images.conditions"


def files_of(roots: Any, of_photos: bool = False, **options: Any) -> ConditionFiles:
    """As a network reads them that was trained on pairs whose files are gone."""
    return condition_files(Paired("/gone", **({"image_size": 32} | options)), roots, OPTION, of_photos)


@pytest.mark.parametrize("kind", ["mask", "sketch", "depth", "normals", "geometry"])
def test_they_are_read_as_in_training(faces: Path, kind: str):
    places = {"geometry": [faces / "normal", faces / "depth"], "normals": faces / "normal"}.get(kind, faces / kind)
    roots = list(map(str, places)) if isinstance(places, list) else str(places)
    found = files_of(roots, condition=kind)
    assert found.names == [f"{number:02}" for number in range(COUNT)]
    expected = drawn(pairs=kind)["condition_image"]
    assert torch.equal(found.read(range(COUNT)), expected)
    assert torch.equal(found.read([3, 1, 3]), expected[[3, 1, 3]])
    assert found.sha256() == [sha256_of(one) for one in expected]


def test_names_keep_folders_and_lose_what_the_data_add_to_them(faces: Path, tmp_path: Path):
    for name in ("b/1_seg.png", "b/1.png", "a_seg.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((faces / "mask" / "00.png").read_bytes())
    found = files_of(str(tmp_path), suffix="_seg")
    assert found.names == ["a", "b/1"]
    plain = files_of(str(tmp_path / "b"), suffix="")
    assert plain.names == ["1", "1_seg"]
    assert files_of(str(faces / "mask"), suffix="_seg").names[:2] == ["00", "01"]  # none has it
    (tmp_path / "a_seg.bmp").write_bytes(b"")
    tiny.refusal(lambda: files_of(str(tmp_path)), "a_seg.bmp and", "would belong to one image")


def test_an_archive_will_do(faces: Path, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
        for number in range(2):
            archive.write(faces / "mask" / f"{number:02}.png", f"masks/{number}.png")
    found = files_of(str(tmp_path / "masks.zip"))
    assert found.names == ["0", "1"]
    assert torch.equal(found.read([1]), drawn(pairs="mask")["condition_image"][1:2])


def test_geometry_of_one_folder_goes_by_what_names_end_in(faces: Path, tmp_path: Path):
    for kind in ("normal", "depth"):
        for number in range(3):
            target = tmp_path / f"{number}_{kind}.png"
            target.write_bytes((faces / kind / f"{number:02}.png").read_bytes())
    (tmp_path / "2_depth.png").unlink()
    geometry = {"condition": "geometry", "suffix": ["_normal", "_depth"]}
    found = files_of(str(tmp_path), **geometry)
    assert found.names == ["0", "1"]
    assert torch.equal(found.read([0, 1]), drawn(pairs="geometry")["condition_image"][:2])
    tiny.refusal(lambda: files_of(str(tmp_path), condition="geometry"), "which files of", "--data.suffix")
    tiny.refusal(lambda: files_of([str(tmp_path)] * 3, **geometry), "names 3 folders")
    tiny.refusal(
        lambda: files_of([str(faces / "image"), str(tmp_path)], condition="geometry"), "normals and depth of one name"
    )


def test_sketches_are_made_of_photographs_as_in_training(faces: Path):
    made = Paired(str(faces / "image"), "sketch", image_size=32, num_workers=0)
    found = files_of(str(faces / "image"), of_photos=True, condition="sketch")
    rows = range(COUNT)
    assert torch.equal(found.read(rows), made.train_source.read(rows)["condition_image"])
    assert "photographs" in str(found)
    told = tiny.refusal(lambda: files_of(str(faces / "image"), of_photos=True))
    assert "makes sketches, but the data are masks" in told


def test_a_network_of_classes_refuses_another_palette(faces: Path, tmp_path: Path):
    """That of the first mask of training is in the record of the data."""
    for folder, colour in (("trained", (10, 20, 30)), ("same", (10, 20, 30)), ("other", (30, 20, 10))):
        (tmp_path / folder).mkdir()
        mask = Image.fromarray(np.full((32, 32), 1, np.uint8), "P")
        mask.putpalette([0, 0, 0, *colour])
        for number in range(COUNT):
            mask.save(tmp_path / folder / f"{number:02}.png")
    trained = pairs_of(faces, conditions=str(tmp_path / "trained"))
    record = trained.data_record()
    assert record["palette"] == {"1": [10, 20, 30]}
    later = Paired("/gone", image_size=32)
    later.recorded = record
    assert len(condition_files(later, str(tmp_path / "same"), OPTION).sha256()) == COUNT
    other = condition_files(later, str(tmp_path / "other"), OPTION)
    tiny.refusal(other.sha256, "other/", "colour index 1 differently")
    assert len(files_of(str(tmp_path / "other")).sha256()) == COUNT  # nothing is known of the training


def image(mode: str, value: Any, size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.new(mode, size, value)


@pytest.mark.parametrize(
    ("kind", "file", "name", "told"),
    [
        ("mask", image("RGB", (255, 0, 7)), "a.png", "has colours, --data.label_map indices reads numbers"),
        ("mask", image("L", 182), "a.png", "a.png has pixels of no class (value 182: 1024 pixels)"),
        ("mask", image("L", 1), "a.jpg", "a.jpg is a JPEG"),
        ("mask", image("I;16", 1), "a.png", "a.png"),
        ("sketch", image("L", 0), "a.png", "a.png is a sketch without lines"),
        ("sketch", image("L", 255), "a.png", "--data.black_on_white true"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, kind: str, file: Image.Image, name: str, told: str):
    file.save(tmp_path / name)
    tiny.refusal(files_of(str(tmp_path), condition=kind).sha256, told)


def test_without_pairs_nothing_says_what_the_files_are(faces: Path):
    for data in (FewShot(str(faces / "image"), image_size=32), None, tiny.faces()):
        tiny.refusal(lambda data=data: condition_files(data, str(faces / "mask"), OPTION), "nothing says what")
    tiny.refusal(lambda: files_of(str(faces / "none")), OPTION)


def test_a_sample_s_noise_goes_by_the_name_of_its_condition(faces: Path):
    found = files_of(str(faces / "mask"))
    numbers = found.numbers(3).view(COUNT, 3)
    first = int.from_bytes(hashlib.blake2b(b"04", digest_size=4).digest(), "big")
    assert numbers[4].tolist() == [first, (first + 1) % 2**32, (first + 2) % 2**32]
    assert torch.equal(found.numbers(1), numbers[:, 0])
    assert len(numbers.unique()) == 3 * COUNT
    conditions = Conditions("images", files=found, each=3)
    assert conditions.count(None) == 3 * COUNT
    [batch] = SeedBatches(torch.tensor([13, 2]), 5, 4, 1, None, conditions.numbers)
    assert batch["index"].tolist() == [13, 2]
    assert batch["seed"].tolist() == [5 * MOST + numbers[4, 1], 5 * MOST + numbers[0, 2]]
