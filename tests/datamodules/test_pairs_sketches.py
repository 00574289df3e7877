"""Sketches: distance against SciPy's, lines of every kind of drawing, edges of photographs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import distance_transform_cdt
from skimage import data

from tenshot.datamodules.pairs import ConditionReader, distance_map
from tenshot.datamodules.reading import ImageError, file_bytes


def drawing(size: int = 64, ground: int = 0) -> Image.Image:
    image = Image.new("L", (size, size), ground)
    ImageDraw.Draw(image).ellipse((8, 8, size - 9, size - 20), outline=255 - ground, width=3)
    return image


def read(path: Path, size: int = 64, **options: bool) -> torch.Tensor:
    return ConditionReader("sketch", size, **options).decoded([file_bytes(path)], [str(path)])[0]


@pytest.mark.parametrize("size", [16, 64, 256])
def test_distances_are_city_blocks_in_256ths_of_the_side(size: int):
    lines = torch.rand(5, size, size, generator=torch.Generator().manual_seed(size)) < 2 / size**2
    lines[0, 0, 0] = lines[1, -1, size // 2] = lines[2, 3, 4] = lines[3, 0, 0] = lines[3, -1, -1] = lines[4, 5, 5] = (
        True
    )
    by_scipy = np.stack([distance_transform_cdt(~one.numpy(), "taxicab") for one in lines])
    assert by_scipy.max() * 256 // size > 255  # some are clipped
    expected = np.minimum(by_scipy.astype(np.int64) * (256 // size), 255)
    assert np.array_equal(distance_map(lines).numpy(), expected)
    assert distance_map(lines).dtype == torch.uint8


def test_without_lines_everything_is_farthest():
    assert (distance_map(torch.zeros(8, 8, dtype=torch.bool)) == 255).all()


def test_lines_are_zero_and_the_rest_is_not(tmp_path: Path):
    drawing().save(tmp_path / "a.png")
    condition = read(tmp_path / "a.png")
    assert condition.shape == (1, 64, 64)
    assert torch.equal(condition[0] == 0, torch.from_numpy(np.array(drawing())) == 255)


def test_soft_jpeg_and_dark_lines_mean_the_same_as_clean_ones(tmp_path: Path):
    """PITI counts pixels of exactly 255 alone: such drawings would be almost no condition."""
    clean = np.array(drawing())
    soft = drawing().filter(ImageFilter.GaussianBlur(0.7))
    soft.save(tmp_path / "soft.png")
    drawing().convert("RGB").save(tmp_path / "a.jpg", quality=60)
    drawing(ground=255).save(tmp_path / "dark.png")
    assert (np.array(soft) == 255).mean() < 0.2 * (clean == 255).mean()
    assert torch.equal(read(tmp_path / "a.jpg")[0] == 0, torch.from_numpy(clean == 255))
    assert ((read(tmp_path / "soft.png")[0] == 0).numpy() != (clean == 255)).mean() < 0.03
    assert torch.equal(read(tmp_path / "dark.png", black_on_white=True)[0] == 0, torch.from_numpy(clean == 255))


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (drawing(ground=255), {}, ["black on white", "--data.black_on_white true"]),
        (drawing(), {"black_on_white": True}, ["white on black", "--data.black_on_white out"]),
        (Image.new("L", (64, 64)), {}, ["without lines"]),
        (Image.new("L", (64, 64), 255), {"black_on_white": True}, ["without lines"]),
    ],
)
def test_inverted_and_empty_sketches_are_refused(tmp_path: Path, image: Image.Image, options: dict, words: list[str]):
    image.save(tmp_path / "a.png")
    with pytest.raises(ImageError) as caught:
        read(tmp_path / "a.png", **options)
    assert all(word in str(caught.value) for word in [*words, str(tmp_path / "a.png")])
    assert "\n" not in str(caught.value)


def test_a_transparent_drawing_is_refused_whatever_its_mode(tmp_path: Path):
    drawing().convert("P").save(tmp_path / "a.png", transparency=0)
    with pytest.raises(ImageError, match="partly transparent"):
        read(tmp_path / "a.png")


def test_lines_lost_in_resizing_are_said(tmp_path: Path):
    image = Image.new("L", (64, 64))
    image.putpixel((0, 0), 255)
    image.save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="no line left at 8 x 8"):
        read(tmp_path / "a.png", 8)


def test_edges_of_a_photograph_lie_where_it_changes():
    photo = Image.new("RGB", (64, 64), (200, 60, 60))
    photo.paste((60, 60, 200), (32, 0, 64, 64))
    edges = ConditionReader("sketch", 64, edge_sigma=4).of_photo(photo, "a")[0] == 0
    columns = edges.any(0).nonzero().flatten().tolist()
    assert columns
    assert set(columns) <= {31, 32}
    assert edges.sum() > 50


def test_a_larger_sigma_leaves_fewer_edges():
    cat = Image.fromarray(data.chelsea())
    few, many = ((ConditionReader("sketch", 64, edge_sigma=s).of_photo(cat, "a") == 0).sum() for s in (12.0, 4.0))
    assert 0 < few < many


def test_a_photograph_without_edges_is_refused():
    with pytest.raises(ImageError, match=r"blank\.jpg has no edges"):
        ConditionReader("sketch", 16).of_photo(Image.new("RGB", (16, 16), "red"), "blank.jpg")
