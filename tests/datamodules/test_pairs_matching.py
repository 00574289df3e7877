"""Which condition belongs to which image: by names, in folders and archives, by lists; and what is said of the rest."""

import json
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from tenshot.datamodules.pairs import PARTS, Pairs, Place, find_pairs
from tenshot.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(name)


def find(
    root: str | None = None, *conditions: str, kind: str = "mask", suffix: Sequence[str] = (), pairs: str | None = None,
    can_be_made: bool = False,
) -> Pairs:  # fmt: skip
    suffixes = suffix or [""] * len(PARTS[kind])
    return find_pairs(Place(root, conditions, suffixes, pairs), PARTS[kind], can_be_made)


def titles(pairs: Pairs) -> list[tuple[str, ...]]:
    return [(pairs.image(i)[1], *pairs.condition(i)[1]) for i in range(len(pairs))]


def complaint(*arguments: str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        find(*arguments, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "left out" in record.message]


def test_same_names_with_other_endings_in_folders_below(folder: Path, caplog: pytest.LogCaptureFixture):
    files("photos/b.jpg", "photos/x/a.jpeg", "photos/a.png", "masks/a.png", "masks/b.bmp", "masks/x/a.png")
    with caplog.at_level(logging.INFO):
        pairs = find("photos", "masks")
    assert titles(pairs) == [
        ("photos/a.png", "masks/a.png"), ("photos/b.jpg", "masks/b.bmp"), ("photos/x/a.jpeg", "masks/x/a.png"),
    ]  # fmt: skip
    assert not said(caplog)
    assert pairs.both(0) == Path("photos/a.png").read_bytes() + Path("masks/a.png").read_bytes()


def test_files_without_a_partner_are_one_line(folder: Path, caplog: pytest.LogCaptureFixture):
    files("photos/a.png", *(f"photos/lone{k}.png" for k in range(5)), "masks/a.png", "masks/other.png")
    with caplog.at_level(logging.INFO):
        pairs = find("photos", "masks")
    assert titles(pairs) == [("photos/a.png", "masks/a.png")]
    (line,) = said(caplog)
    assert "1 pairs" in line
    assert "5 without a mask (lone0.png, lone1.png, lone2.png, …)" in line
    assert "1 masks without an image (other.png)" in line


def test_conditions_beside_their_images(folder: Path, caplog: pytest.LogCaptureFixture):
    """As ADE20K and DIODE have them."""
    files("ade/a.jpg", "ade/a_seg.png", "ade/b.jpg", "diode/a.png", "diode/a_depth.png", "diode/a_normal.png")
    with caplog.at_level(logging.INFO):
        assert titles(find("ade", suffix=["_seg"])) == [("ade/a.jpg", "ade/a_seg.png")]
    (line,) = said(caplog)
    assert "1 without a mask (b.jpg)" in line
    assert "without an image" not in line
    assert titles(find("ade", "./ade", suffix=["_seg"])) == [("ade/a.jpg", "./ade/a_seg.png")]
    assert said(caplog)[1:] == [line]  # its masks are no images without a mask
    geometry = find("diode", kind="geometry", suffix=["_normal", "_depth"])
    assert titles(geometry) == [("diode/a.png", "diode/a_normal.png", "diode/a_depth.png")]


def test_archives_each_with_a_folder_of_its_own(folder: Path):
    files("photos/a.png", "photos/b.png", "masks/a.png")
    with zipfile.ZipFile("photos.zip", "w") as photos, zipfile.ZipFile("masks.zip", "w") as masks:
        for name in ("a", "b"):
            photos.write(f"photos/{name}.png", f"train/images/{name}.png")
        masks.write("masks/a.png", "labels/a.png")
    pairs = find("photos.zip", "masks.zip")
    assert titles(pairs) == [(f"{folder}/photos.zip: train/images/a.png", f"{folder}/masks.zip: labels/a.png")]
    assert pairs.both(0) == Path("photos/a.png").read_bytes() + Path("masks/a.png").read_bytes()


@pytest.mark.parametrize("names", ["{}.jpg", "photos/{}.jpg", "/mnt/elsewhere/photos/{}.jpg", "./{}.png"])
def test_a_list_of_images_chooses_some(folder: Path, caplog: pytest.LogCaptureFixture, names: str):
    files(*(f"photos/x/no {k}.jpg" for k in range(4)), *(f"masks/x/no {k}.png" for k in range(4)))
    Path("list.txt").write_text("".join(f"{names.format(f'x/no {k}')}\n" for k in (3, 1)))
    with caplog.at_level(logging.INFO):
        pairs = find("photos", "masks", pairs="list.txt")
    assert titles(pairs) == [("photos/x/no 3.jpg", "masks/x/no 3.png"), ("photos/x/no 1.jpg", "masks/x/no 1.png")]
    assert not said(caplog)


@pytest.mark.parametrize(
    "lines",
    [
        "photos/a b.jpg\tmasks/1.png\nphotos/c.jpg\tmasks/2.png\n",
        "# of mine\n\nphotos/a b.jpg\tmasks/1.png\nphotos/c.jpg masks/2.png\n",
        "\ufeffphotos/a b.jpg, masks/1.png\r\nphotos/c.jpg,masks/2.png\r\n",
        '{"image": "photos/a b.jpg", "condition": "masks/1.png"}\n{"image": "photos/c.jpg", "mask": "masks/2.png"}',
        '{"target": "photos/a b.jpg", "source": "masks/1.png", "prompt": "x"}\n'
        '{"file_name": "photos/c.jpg", "conditioning_image": "masks/2.png"}',
    ],
)
def test_a_list_of_pairs_is_relative_to_its_folder(folder: Path, lines: str):
    files("set/photos/a b.jpg", "set/photos/c.jpg", "set/masks/1.png", "set/masks/2.png")
    Path("set/list.txt").write_text(lines)
    expected = [("set/photos/a b.jpg", "set/masks/1.png"), ("set/photos/c.jpg", "set/masks/2.png")]
    assert titles(find(pairs="set/list.txt")) == expected


def test_a_list_of_pairs_in_other_places(folder: Path):
    files("p/a.jpg", "m/b.png", "n/a.png", "d/a.png")
    Path("list.txt").write_text(f"a.jpg {folder}/m/b.png\n")
    assert titles(find("p", pairs="list.txt")) == [("p/a.jpg", f"{folder}/m/b.png")]
    Path("list.jsonl").write_text(json.dumps({"image": "a.jpg", "normals": "a.png", "depth": "a.png"}))
    assert titles(find("p", "n", "d", kind="geometry", pairs="list.jsonl")) == [("p/a.jpg", "n/a.png", "d/a.png")]


def test_sketches_are_made_where_nothing_says_where_they_are(folder: Path):
    files("photos/a.jpg", "photos/b.jpg", "sketches/a.png")
    Path("list.txt").write_text("photos/b.jpg\n")
    Path("pairs.txt").write_text("photos/b.jpg sketches/a.png\n")
    assert titles(find("photos", kind="sketch", can_be_made=True)) == [("photos/a.jpg",), ("photos/b.jpg",)]
    assert titles(find(kind="sketch", pairs="list.txt", can_be_made=True)) == [("photos/b.jpg",)]
    assert titles(find("photos", kind="sketch", pairs="list.txt", can_be_made=True)) == [("photos/b.jpg",)]
    for options in ({"pairs": "pairs.txt"}, {"pairs": "pairs.txt", "root": "."}):
        found = titles(find(kind="sketch", can_be_made=True, **options))  # type: ignore[arg-type]
        assert found == [("photos/b.jpg", "sketches/a.png")]
    assert titles(find("photos", "sketches", kind="sketch", can_be_made=True)) == [("photos/a.jpg", "sketches/a.png")]


def test_the_digest_is_of_all_names(folder: Path):
    files("photos/a.jpg", "masks/a.png", "others/a.bmp")
    assert find("photos", "masks").digest == find("photos", "masks").digest != find("photos", "others").digest


def test_where_nothing_fits_the_suffix_is_guessed(folder: Path):
    files("photos/a.jpg", "masks/a_mask.png", "other/z.png")
    assert "set --data.suffix to _mask" in complaint("photos", "masks")
    message = complaint("photos", "other")
    assert "photos/a.jpg, other/z.png" in message
    assert "give both the same name" in message
    assert "names end like those of conditions" in complaint("masks", suffix=["_mask"])


def test_what_is_missing_or_ambiguous(folder: Path):
    files("photos/a.jpg", "masks/a.png", "masks/a.bmp")
    message = complaint("photos", "masks")
    assert "masks/a.bmp and masks/a.png would belong to one image" in message
    assert "--data.root is not set" in complaint(None)  # type: ignore[arg-type]
    message = complaint("photos")
    assert "where are the masks of photos?" in message
    assert "--data.conditions" in message
    assert "--data.suffix, such as _mask" in message
    assert "gone does not exist: set --data.conditions" in complaint("photos", "gone")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "photos/a.jpg masks/a.png\nphotos/b.jpg masks/c.png\n",
            "names 2 files that do not exist (photos/b.jpg, masks",
        ),
        ("photos/a.jpg\tmasks/a.png\tmasks/a.png\n", "line 1 names 3 files: write the image and its mask"),
        ("photos/a.jpg\tmasks/a.png\nphotos/a.jpg\n", "line 2 names 1 files, lines before it 2"),
        ("{not json}\n", "line 1 is no JSON object"),
        ('{"mask": "a.png"}\n', "line 1 names no image"),
        ('{"image": "a.png", "mask": 3}\n', "line 1: mask is no name of a file"),
        ("\n# nothing\n", "names no images"),
    ],
)
def test_lists_that_are_none(folder: Path, lines: str, words: str):
    files("photos/a.jpg", "masks/a.png")
    Path("list.txt").write_text(lines)
    assert words in complaint(pairs="list.txt")


def test_a_list_of_images_that_are_not_there(folder: Path):
    files("photos/a.jpg", "masks/a.png")
    Path("list.txt").write_text("a.jpg\n" + "".join(f"gone{k}.jpg\n" for k in range(5)))
    message = complaint("photos", "masks", pairs="list.txt")
    assert "list.txt names 5 images that photos lacks (gone0.jpg, gone1.jpg, gone2.jpg, …)" in message
    assert "cannot be read" in complaint("photos", "masks", pairs="no.txt")
