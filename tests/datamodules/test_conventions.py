"""Each convention against plain numpy, torchvision's own transforms, and the official code."""

import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from official_code import official
from PIL import Image
from skimage import data
from torchvision.transforms import functional as transforms

from tenshot.datamodules.conventions import CONVENTIONS, cdc, piti
from tenshot.datamodules.reading import fitted, resized

SIZES = [
    (96, 96, 32),
    (97, 75, 32),
    (75, 98, 32),
    (300, 451, 64),
    (64, 64, 64),
    (40, 64, 40),
    (30, 41, 64),
    (65, 33, 33),
]


def photo(height: int, width: int) -> Image.Image:
    return Image.fromarray(data.astronaut()[:height, :width])


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.int64)


def resampled(x: np.ndarray, length: int, kernel: str) -> np.ndarray:
    """Rows of x (N, ...) resampled to ``length``: a sum over the support of the kernel, widened when shrinking."""
    support = {"lanczos": 3.0, "bicubic": 2.0, "box": 0.5}[kernel]
    scale = len(x) / length
    widened = max(scale, 1.0)
    out = np.empty((length, *x.shape[1:]))
    for place in range(length):
        centre = (place + 0.5) * scale
        first, last = max(0, int(centre - support * widened + 0.5)), min(len(x), int(centre + support * widened + 0.5))
        t = np.abs((np.arange(first, last) + 0.5 - centre) / widened)
        if kernel == "box":
            weights = np.ones_like(t)
        elif kernel == "lanczos":
            weights = np.where(t < 3, np.sinc(t) * np.sinc(t / 3), 0)
        else:
            near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
            weights = np.where(t < 1, near, np.where(t < 2, far, 0))
        out[place] = np.tensordot(weights / weights.sum(), x[first:last], 1)
    return out.clip(0, 255)


def both_ways(image: Image.Image, width: int, height: int, kernel: str) -> np.ndarray:
    x = resampled(pixels(image).astype(float).transpose(1, 0, 2), width, kernel).transpose(1, 0, 2)
    return resampled(x, height, kernel)


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_cdc_is_lanczos_to_the_short_side_and_the_middle_of_it(height: int, width: int, size: int):
    image, short = photo(height, width), min(height, width)
    wide, high = int(size * width / short), int(size * height / short)
    whole = both_ways(image, wide, high, "lanczos")
    top, left = round((high - size) / 2), round((wide - size) / 2)
    expected = whole[top : top + size, left : left + size]
    ours = pixels(cdc(image, size))
    assert ours.shape == (size, size, 3)
    assert np.abs(ours - expected).mean() < 0.6  # both are rounded, in one order of the sides or the other
    # a crop one pixel aside is another image
    aside = np.roll(whole, 1, 1)[top : top + size, left : left + size]
    assert np.abs(ours - aside).mean() > 2 * np.abs(ours - expected).mean()


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_cdc_equals_the_transforms_it_was_made_with(height: int, width: int, size: int):
    image = photo(height, width)
    theirs = transforms.center_crop(transforms.resize(image, size, transforms.InterpolationMode.LANCZOS), size)
    assert np.array_equal(pixels(cdc(image, size)), pixels(theirs))


@pytest.mark.parametrize("variable", ["CDC", "MIXDL", "STYLEGAN2_PYTORCH"])
def test_cdc_equals_the_official_preparation_up_to_its_jpeg(variable: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lmdb", sys.modules.get("lmdb") or types.ModuleType("lmdb"))
    theirs = official(variable, ".prepare_data")
    kept: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "save", lambda self, *_, **__: kept.append(self.copy()))
    for height, width, size in SIZES:
        theirs.resize_and_convert(photo(height, width), size, Image.Resampling.LANCZOS)
        assert np.array_equal(pixels(cdc(photo(height, width), size)), pixels(kept.pop()))


@pytest.mark.parametrize("size", [64, 256, 300])
def test_piti_squashes_and_makes_small_ones_of_256(size: int):
    fields = np.random.default_rng(0).integers(0, 2, (100, 165, 1), dtype=np.uint8) * 255  # what bicubic overshoots at
    image = Image.fromarray(np.kron(fields, np.ones((2, 2, 3), np.uint8)))
    at_once = both_ways(image, size, size, "bicubic")
    square = Image.fromarray(both_ways(image, 256, 256, "bicubic").round().astype(np.uint8))
    expected = both_ways(square, size, size, "bicubic") if size < 256 else at_once
    ours = pixels(piti(image, size))
    assert ours.shape == (size, size, 3)
    assert np.abs(ours - expected).mean() < 0.6
    assert size >= 256 or np.abs(ours - at_once).mean() > 1


def test_piti_conditions_keep_their_colours():
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (7, 3), dtype=np.uint8)
    mask = palette[np.kron(rng.integers(0, 7, (9, 13)), np.ones((30, 20), int))]
    ours = pixels(CONVENTIONS["piti_condition"](Image.fromarray(mask), 128))
    rows, columns = ((np.arange(128) + 0.5) * 270 / 128).astype(int), ((np.arange(128) + 0.5) * 260 / 128).astype(int)
    assert np.array_equal(ours, mask[rows][:, columns])


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_adm_equals_the_official_crop_to_the_bit(height: int, width: int, size: int):
    theirs = official("GUIDED_DIFFUSION", "guided_diffusion.image_datasets")
    if getattr(sys.modules.get("mpi4py", sys), "__spec__", None) is None:
        del sys.modules["mpi4py"]  # a stub, at which Lightning would stumble
    image = photo(height, width)
    assert np.array_equal(pixels(CONVENTIONS["adm"](image, size)), theirs.center_crop_arr(image, size))


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_the_fast_reading_is_the_same_convention(height: int, width: int, size: int):
    """Against float arithmetic, rows before columns, rounded after each pass; Pillow swaps the passes at times."""
    image = photo(height, width)
    x = pixels(image).astype(float)
    while min(x.shape[:2]) >= 2 * size:
        for _ in range(2):
            x = np.floor(resampled(x.swapaxes(0, 1), x.shape[1] // 2, "box") + 0.5)
    y = torch.from_numpy(x).permute(2, 0, 1)[None].float()
    high, wide = (round(side * size / min(y.shape[2:])) for side in y.shape[2:])
    for target in ((y.shape[2], wide), (high, wide)):
        y = F.interpolate(y, target, mode="bicubic", antialias=True).round().clamp(0, 255)
    top, left = (high - size) // 2, (wide - size) // 2
    difference = (fitted(image, size).float() - y[0, :, top : top + size, left : left + size]).abs()
    assert difference.max() <= 2
    assert difference.mean() < 0.02


@pytest.mark.parametrize(("height", "width", "size"), [size for size in SIZES if size[1] >= size[0]])
def test_the_fast_reading_is_hardly_a_level_from_the_exact_one(height: int, width: int, size: int):
    image = photo(height, width)
    difference = np.abs(fitted(image, size).permute(1, 2, 0).numpy().astype(int) - pixels(resized(image, size)))
    assert difference.max() <= 2
    assert difference.mean() < 0.1
