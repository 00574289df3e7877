"""What is found in a folder of images before a generator is adapted to them, in sets made by hand."""

from io import BytesIO
from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from tenshot.cli.adapt.images import findings, near_duplicates, odd_ones_out, read_shots
from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.pixels import from_pixels
from tenshot.models.features.efficientnet_lite0 import EfficientNetLite0Distance


def drawn(count: int, side: int = 64) -> list[Image.Image]:
    """Different faces."""
    data = SyntheticFaces(image_size=side, num_images=count, num_val=0)
    data.setup()
    return [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in data.train_source.read(range(count))["image"]]


def jpeg(image: Image.Image) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=75)
    return Image.open(file)


def noise(side: int = 64) -> Image.Image:
    pixels = torch.randint(256, (side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def folder(place: Path, images: dict[str, Image.Image]) -> str:
    for name, image in images.items():
        image.save(place / name)
    return str(place)


def said(root: str, size: int = 64) -> dict[str, list[str]]:
    """The texts under each heading."""
    found: dict[str, list[str]] = {}
    for heading, text in findings(read_shots(root, size)):
        found.setdefault(heading, []).append(text)
    return found


@pytest.fixture(scope="module")
def faces() -> list[Image.Image]:
    return drawn(7)


def named(images: list[Image.Image]) -> dict[str, Image.Image]:
    return {f"{number}.png": image for number, image in enumerate(images)}


def test_different_images_of_one_kind_are_passed_without_a_word(tmp_path: Path, faces: list[Image.Image]):
    root = folder(tmp_path, named(faces))
    assert said(root) == {"images": [f"7 in {root}"], "sizes": ["all 64 x 64; trained on at 64 x 64"]}


def test_copies_and_what_is_of_another_kind_are_named_and_stay(tmp_path: Path, faces: list[Image.Image]):
    others = {"copy.jpg": jpeg(faces[2]), "same.bmp": faces[4], "noise.png": noise()}
    root = folder(tmp_path, named(faces) | others)
    found = said(root)
    assert found["images"] == [f"10 in {root}"]
    assert found["twice"] == ["4.png = same.bmp, the same pixels: counted as 2 images"]
    [alike] = found["alike"]
    assert alike.startswith("2.png and copy.jpg (")
    assert "4.png" not in alike  # said already
    [odd] = found["odd"]
    assert odd.startswith("noise.png: ")
    assert found[""] == ["nothing is left out: move files away that do not belong there"]
    assert len(read_shots(root, 64).pixels) == 10


def images_of(pictures: list[Image.Image]) -> Tensor:
    return from_pixels(torch.stack([pil_to_tensor(picture) for picture in pictures]))


def test_near_is_near_in_relation_to_the_others(faces: list[Image.Image]):
    """Drawings of one style may all be nearer to each other than a JPEG copy is to its photograph."""
    x = images_of(faces)
    alike = 0.9 * x.mean(dim=0) + 0.1 * x
    network = EfficientNetLite0Distance()
    assert network(alike[:1], alike[1:2]).item() < network.copy_distance
    assert near_duplicates(alike) == []
    copied = torch.cat([alike, 0.98 * alike[3:4] + 0.02 * alike[5:6]])
    [(first, second, distance)] = near_duplicates(copied)
    assert (first, second) == (3, 7)
    assert distance == pytest.approx(network(copied[3:4], copied[7:8]).item(), rel=1e-3)
    assert near_duplicates(copied[[3, 7]]) == []  # of two there is nothing to compare with


def test_of_very_few_none_is_odd(faces: list[Image.Image]):
    x = images_of([*faces[:4], noise()])
    assert [number for number, _ in odd_ones_out(x)] == [4]
    assert odd_ones_out(x[[0, 1, 2, 4]]) == []


def test_sizes_are_told(tmp_path: Path):
    images = {"a.png": noise(40), "b.png": noise(80).resize((160, 80)), "c.png": noise(80).resize((80, 100))}
    found = said(folder(tmp_path, images))
    assert found["images"][0].startswith(f"3 in {tmp_path}: very few")
    assert found["sizes"] == ["40 x 40 to 160 x 80; trained on at 64 x 64"]
    assert found["small"] == ["a.png: enlarged to 64 x 64, no sharper than they are"]
    assert found["cropped"] == ["2 of 3 are not square, their centre is used: 50% of b.png is cut off, of others less"]


def test_more_than_a_hundred_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tenshot.cli.adapt.images.MANY", 2)
    monkeypatch.setattr("tenshot.cli.adapt.images.FEW", 2)
    monkeypatch.setattr("tenshot.cli.adapt.images.MOST_COMPARED", 2)
    found = said(folder(tmp_path, {f"{n}.png": noise(16) for n in range(3)}), 16)
    assert found["images"][0].startswith(f"3 in {tmp_path}: more than few-shot methods need")
    assert found["alike"] == ["not looked for among more than 2 images"]


def test_images_that_cannot_be_used_are_one_line(tmp_path: Path):
    root = folder(tmp_path, {"a.png": noise(16), "b.png": noise(16)})
    (tmp_path / "c.png").write_text("none")
    tiny.refusal(lambda: read_shots(root, 16), "c.png is not an image")
    Image.new("RGBA", (16, 16), (1, 2, 3, 4)).save(tmp_path / "d.png")
    told = tiny.refusal(lambda: read_shots(root, 16), "c.png is not an image", "(1 other image of 4 cannot be used")
    assert "d.png" not in told
    tiny.refusal(lambda: read_shots(root, 256), "a.png is only 16 x 16", "lower that of the --source")
    (tmp_path / "one").mkdir()
    tiny.refusal(lambda: read_shots(folder(tmp_path / "one", {"a.png": noise(16)}), 16), "a single image (a.png)")
    tiny.refusal(lambda: read_shots(str(tmp_path / "none"), 16), "does not exist: set FOLDER")
