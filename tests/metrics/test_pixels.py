"""Which images metrics take, and that a float image counts as its file would."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import InputError
from tenshot.metrics.pixels import checked_pixels


def test_floats_are_rounded_to_the_nearest_level_and_clamped():
    x = torch.linspace(-1.003, 1.003, 3 * 40 * 50).view(1, 3, 40, 50)
    expected = np.rint((np.clip(x.double().numpy(), -1, 1) + 1) * 127.5)
    off = np.abs(checked_pixels(x).numpy() - expected)
    assert off.max() <= 1  # where float32 lies on the other side of a half
    assert (off > 0).mean() < 1e-2
    assert set(np.unique(checked_pixels(x))) == set(range(256))


def test_an_image_and_its_png_are_the_same_to_the_bit():
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    file = io.BytesIO()
    Image.fromarray(checked_pixels(x)[0].permute(1, 2, 0).numpy()).save(file, "PNG")
    read = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None]
    assert torch.equal(checked_pixels(read), checked_pixels(x))
    assert torch.equal(checked_pixels(read.float() / 127.5 - 1), checked_pixels(x))
    assert torch.equal(checked_pixels(from_pixels(read)), read)


def test_every_level_survives_the_way_to_float_and_back():
    pixels = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    assert torch.equal(checked_pixels(from_pixels(pixels)), pixels)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(3, 8, 8), r"\(N, 3, H, W\), but got \(3, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8), r"\(2, 1, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "torch.int64"),
        (torch.full((1, 3, 2, 2), 200.0), r"\[-1, 1\], but got 200 … 200: x / 127.5 - 1"),
        (torch.full((1, 3, 2, 2), -1.2), r"got -1.2 … -1.2: scale or clamp"),
        (torch.full((1, 3, 2, 2), float("inf")), "inf"),
        (torch.tensor([0.0, float("nan")]).expand(1, 3, 2, 2), "NaN"),
    ],
)
def test_other_images_are_refused_with_their_range_and_the_remedy(images: torch.Tensor, said: str):
    with pytest.raises(InputError, match=said) as error:
        checked_pixels(images)
    assert "\n" not in str(error.value)


def test_a_batch_without_anything_dark_is_suspected_to_be_in_zero_to_one():
    with pytest.warns(UserWarning, match=r"for \[0, 1\] give 2 \* x - 1"):
        checked_pixels(torch.rand(2, 3, 4, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked_pixels(torch.rand(2, 3, 4, 4) * 2 - 1)
        checked_pixels(torch.full((1, 3, 4, 4), 200, dtype=torch.uint8))
