"""The resampling of ADA against a slow form in numpy, against closed forms and against finite differences."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tenshot.models.augmentation.warp import SYM6, warp

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def affine(*matrices: tuple[tuple[float, float, float], ...]) -> Tensor:
    return torch.tensor(matrices, dtype=torch.float64)


def turned(angle: float, zoom: float = 1.0, x: float = 0.0, y: float = 0.0) -> tuple[tuple[float, float, float], ...]:
    cos, sin = math.cos(angle) * zoom, math.sin(angle) * zoom
    return ((cos, -sin, x), (sin, cos, y))


def slow_warp(image: np.ndarray, matrix: np.ndarray, margin: int) -> np.ndarray:
    """One channel (H, W): zeros between pixels, convolve, interpolate point by point, correlate, drop every other."""
    height, width = image.shape
    taps = np.array(SYM6)
    padded = np.pad(image, margin, mode="reflect")
    spread = np.zeros((2 * padded.shape[0], 2 * padded.shape[1]))
    spread[::2, ::2] = padded
    double = np.apply_along_axis(np.convolve, 0, spread, taps)
    double = 2 * np.apply_along_axis(np.convolve, 1, double, taps)  # pixel i is at 2 * (margin + i) + 5

    def value(x: float, y: float) -> float:
        i, j = math.floor(y), math.floor(x)
        v, u = y - i, x - j
        around = double[i : i + 2, j : j + 2]
        return np.array([1 - v, v]) @ around @ np.array([1 - u, u])

    sampled = np.zeros((2 * height + 10, 2 * width + 10))
    for row in range(2 * height + 10):
        for column in range(2 * width + 10):
            from_centre = np.array([(column - 5) / 2 - (width - 1) / 2, (row - 5) / 2 - (height - 1) / 2, 1.0])
            x, y = matrix @ from_centre
            sampled[row, column] = value(
                2 * (x + (width - 1) / 2 + margin) + 5, 2 * (y + (height - 1) / 2 + margin) + 5
            )
    reduced = np.apply_along_axis(np.correlate, 0, sampled, taps, "valid")[::2]
    return np.apply_along_axis(np.correlate, 1, reduced, taps, "valid")[:, ::2] / 2


@pytest.mark.parametrize(
    "matrix",
    [turned(0.7), turned(-2.0, 0.6, 1.3, -0.4), turned(0.4, 4.5), turned(0.0, 1.0, 40.25, -31.5)],
    ids=["rotated", "enlarged", "shrunk beyond one reflection", "shifted beyond one reflection"],
)
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_equals_the_slow_form(matrix: tuple[tuple[float, float, float], ...], size: tuple[int, int]) -> None:
    images = random_images(1, 2, *size)
    expected = [slow_warp(channel.numpy(), np.array(matrix), margin=60) for channel in images[0]]
    torch.testing.assert_close(warp(images, affine(matrix))[0], torch.tensor(np.stack(expected)), atol=1e-10, rtol=0)


def test_filters_cancel() -> None:
    images = random_images(2, 3, 9, 12)
    almost = affine(IDENTITY, IDENTITY)
    almost[:, 0, 2] = 1e-12  # the identity itself is not resampled
    torch.testing.assert_close(warp(images, almost), images, atol=1e-10, rtol=0)


def test_identity_is_exact_for_its_image_alone() -> None:
    images = random_images(3, 3, 32, 32).float()
    out = warp(images, affine(IDENTITY, turned(0.3), IDENTITY).float())
    assert torch.equal(out[0], images[0])
    assert torch.equal(out[2], images[2])
    assert (out[1] - images[1]).abs().max() > 0.1


@pytest.mark.parametrize(("x", "y"), [(3, 0), (-2, 4)])
def test_whole_pixels_shift_and_reflect(x: int, y: int) -> None:
    images = random_images(1, 3, 9, 12)
    reflected = torch.nn.functional.pad(images, (4, 4, 4, 4), mode="reflect")
    expected = reflected[:, :, 4 - y : 13 - y, 4 - x : 16 - x]  # moved to the right by x and down by y
    matrix = affine(((1.0, 0.0, -float(x)), (0.0, 1.0, -float(y))))
    torch.testing.assert_close(warp(images, matrix), expected, atol=1e-10, rtol=0)


def smooth(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(
        torch.linspace(0, math.pi, height, dtype=torch.float64), torch.linspace(0, math.pi, width, dtype=torch.float64),
        indexing="ij",
    )  # fmt: skip
    return torch.stack((x.cos() * y.cos(), (2 * x).cos() + y.cos() / 2, (2 * y).cos() * x.cos()))[None]


def test_flip_and_quarter_turns_of_a_smooth_image() -> None:
    """The filter is not quite symmetric, so that mirroring costs a tenth of a pixel: as published."""
    images = smooth(48, 48)
    tenth = 0.15 * 2 * math.pi / 47  # that part of the steepest difference between pixels
    expected = {
        "flip": (images.flip(3), ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))),
        "once": (images.rot90(1, (2, 3)), ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0))),
        "twice": (images.rot90(2, (2, 3)), ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))),
        "thrice": (images.rot90(3, (2, 3)), ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))),
    }
    for name, (image, matrix) in expected.items():
        assert (warp(images, affine(matrix)) - image).abs().max() < tenth, name


def test_half_a_pixel_of_a_smooth_image() -> None:
    images = smooth(8, 64)
    y, x = torch.arange(8), torch.arange(64)
    moved = ((x - 0.5) * math.pi / 63).cos() * (y * math.pi / 7).cos()[:, None]  # continues by reflection, as a cosine
    out = warp(images, affine(((1.0, 0.0, -0.5), (0.0, 1.0, 0.0))))[0, 0]
    torch.testing.assert_close(out, moved.double(), atol=2e-3, rtol=0)


def test_neighbours_in_a_batch_do_not_matter() -> None:
    images = random_images(2, 3, 16, 16)
    alone = warp(images[:1], affine(turned(0.2)))
    together = warp(images, affine(turned(0.2), turned(1.0, 7.0, 20.0, 3.0)))
    torch.testing.assert_close(together[:1], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 32)])
def test_any_size(size: tuple[int, int]) -> None:
    out = warp(torch.full((1, 3, *size), 0.25), affine(turned(0.5, 1.3, 2.0)).float())
    torch.testing.assert_close(out, torch.full((1, 3, *size), 0.25), atol=1e-6, rtol=0)


def test_gradients_of_first_and_second_order() -> None:
    images = random_images(2, 1, 4, 5).requires_grad_()
    matrices = affine(turned(0.4, 1.2, 0.3, -0.8), turned(-1.0, 3.0))
    torch.autograd.gradcheck(lambda x: warp(x, matrices), images)
    # linear, and so tested with something that bends behind it, as a discriminator does
    torch.autograd.gradgradcheck(lambda x: warp(x, matrices).sin(), images)
