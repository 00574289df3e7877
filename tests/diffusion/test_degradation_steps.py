"""The steps of a degradation, against SciPy, Pillow, and loops and dense matrices in float64."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import convolve
from scipy.stats import multivariate_normal
from skimage import data
from torch import Tensor

from tenshot.diffusion.degradation.jpeg import jpeg
from tenshot.diffusion.degradation.kernels import filtered, gaussian_kernel, resized, shifted_gaussian
from tenshot.diffusion.degradation.smoothing import l0_smooth
from tenshot.diffusion.degradation.steps import Noise, Shrink, SmoothToBlack


def images(n: int = 2, side: int = 9, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def photo(side: int, at: int = 100) -> np.ndarray:
    """Of an astronaut, reduced: (side, side, 3) uint8"""
    return np.array(Image.fromarray(data.astronaut()[:400, at : at + 400]).resize((side, side)))


def as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("size", [5, 8, 14])
def test_gaussian_kernels_are_the_density_at_their_pixels(size: int):
    angle, variances = 0.7, (1.9, 0.4)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    covariance, middle = turn @ np.diag(variances) @ turn.T, (size - 1) / 2
    density = multivariate_normal([0, 0], covariance).pdf
    expected = np.array([[density([x - middle, y - middle]) for x in range(size)] for y in range(size)])
    np.testing.assert_allclose(gaussian_kernel(size, covariance), expected / expected.sum(), rtol=1e-9)


@pytest.mark.parametrize(("size", "pixels"), [(7, 1), (6, 4)])
def test_a_gaussian_without_width_is_the_middle_pixels(size: int, pixels: int):
    """Where the published formula divides nothing by nothing."""
    kernel = gaussian_kernel(size, np.zeros((2, 2)))
    assert (kernel > 0).sum() == pixels
    np.testing.assert_allclose(kernel[kernel > 0], 1 / pixels)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_shifted_gaussian_is_interpolated_by_scipy(factor: int):
    sigma, at, shift = 0.55 * factor, np.arange(25.0), (factor - 1) / 2
    kernel = gaussian_kernel(25, sigma**2 * np.eye(2))
    moved = np.clip(at + shift, 0, 24)
    expected = RectBivariateSpline(at, at, kernel, kx=1, ky=1)(moved, moved)
    np.testing.assert_allclose(shifted_gaussian(25, sigma, shift), expected / expected.sum(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("side", [1, 2, 5, 9])
@pytest.mark.parametrize("size", [3, 6, 7])
def test_each_image_is_convolved_with_its_own_kernel_as_by_scipy(side: int, size: int):
    x, kernels = images(side=side), np.random.default_rng(0).random((2, size, size))
    for stride in (1, 2):
        ours = filtered(x, torch.from_numpy(kernels), stride)
        for image, kernel, found in zip(x.numpy(), kernels, ours, strict=True):
            expected = convolve(image, kernel[None], mode="mirror")[:, ::stride, ::stride]
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_shrinking_keeps_places():
    """A ramp stays one: each pixel is the mean over the four by four that it stands for."""
    ramp = torch.linspace(0.1, 0.9, 64).expand(1, 3, 64, 64)
    small = Shrink.take(ramp, [Shrink(shifted_gaussian(25, 1.5, 1.5), 4)])
    torch.testing.assert_close(small[..., 4:-4, 4:-4], ramp.unfold(3, 4, 4).mean(4)[..., ::4, :][..., 4:-4, 4:-4])


@pytest.mark.parametrize(("side", "out"), [(9, 5), (9, 4), (8, 4), (5, 9), (7, 7), (2, 1)])
def test_areas_are_those_of_many_equal_pixels(side: int, out: int):
    x = images(side=side)
    fine = x.repeat_interleave(out, 2).repeat_interleave(out, 3)
    expected = fine.unfold(2, side, side).unfold(3, side, side).mean((4, 5))
    torch.testing.assert_close(resized(x, out, "area"), expected)


@pytest.mark.parametrize(("side", "out"), [(9, 5), (8, 3), (5, 9)])
@pytest.mark.parametrize("how", ["linear", "cubic"])
def test_interpolations_are_opencv_s_loops(side: int, out: int, how: str):
    """Sampled at the middles of the new pixels, of the old ones around them; the border is repeated."""
    reach, a = (1, 0.0) if how == "linear" else (2, -0.75)

    def weight(d: float) -> float:
        d = abs(d)
        if how == "linear":
            return max(0.0, 1 - d)
        if d <= 1:
            return ((a + 2) * d - (a + 3)) * d * d + 1
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0

    x = images(1, side)
    line = np.zeros((out, side))
    for i in range(out):
        at = (i + 0.5) * side / out - 0.5
        for j in range(math.floor(at) - reach + 1, math.floor(at) + reach + 1):
            line[i, min(max(j, 0), side - 1)] += weight(at - j)
    np.testing.assert_allclose(resized(x, out, how)[0], line @ x[0].numpy() @ line.T, rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]


def test_the_antialiased_half_is_pillow_s_of_an_image_with_its_mirror_image_around():
    x = images(1, 12, seed=3)
    padded = np.pad(x[0, 0].numpy(), 8, mode="symmetric").astype(np.float32)
    expected = np.array(Image.fromarray(padded).resize((14, 14), Image.Resampling.BICUBIC))[4:-4, 4:-4]
    np.testing.assert_allclose(resized(x, 6, "antialiased")[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("quality", [80, 95, 30])
def test_jpeg_is_libjpeg_s_but_for_single_roundings(quality: int):
    """One of the transform of integers can turn a coefficient, and with it a block, by a step."""
    shares, errors, losses = [], [], []
    for side in (64, 60, 61, 49, 35, 80):
        pixels, file = photo(side), io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        theirs = np.array(Image.open(file)).astype(float)
        ours = (jpeg(as_tensor(pixels), [quality])[0].permute(1, 2, 0) * 255).numpy()
        np.testing.assert_allclose(ours, ours.round(), atol=1e-4)
        error = np.abs(ours.round() - theirs)
        shares.append((error > 0).mean())
        errors.append(error.mean())
        losses.append(np.abs(pixels - theirs).mean())
    assert np.mean(shares) < (0.15 if quality == 95 else 0.08)
    assert np.mean(errors) < 0.1 * np.mean(losses)
    assert np.mean(losses) > 1


@pytest.mark.parametrize("side", [20, 21])
def test_colours_at_the_border_are_libjpeg_s(side: int):
    """Which fills its last block with what is not shown, but for filtering the last shown pixel."""
    pixels, file = np.empty((side, side, 3), np.uint8), io.BytesIO()
    pixels[:, 0::2], pixels[:, 1::2] = (200, 60, 60), (60, 60, 200)
    Image.fromarray(pixels).save(file, "JPEG", quality=90, subsampling="4:2:0")
    ours = (jpeg(as_tensor(pixels), [90])[0].permute(1, 2, 0) * 255).round()
    assert np.abs(ours.numpy() - np.array(Image.open(file)).astype(float)).max() <= 1


def test_each_image_has_its_own_quality():
    pixels = torch.cat([as_tensor(photo(24)), as_tensor(photo(24, 50))])
    both = jpeg(pixels, [85, 30])
    assert torch.equal(both[:1], jpeg(pixels[:1], [85]))
    assert torch.equal(both[1:], jpeg(pixels[1:], [30]))
    assert (both - pixels).abs().mean((1, 2, 3)).diff() > 0.01


def dense_l0(image: np.ndarray, strength: float) -> np.ndarray:
    """The same splitting with difference operators as matrices, solved directly: (C, H, W) in [0, 1]"""
    channels, height, width = image.shape
    whole = np.eye(height * width).reshape(height * width, height, width)
    across = (np.roll(whole, -1, axis=2) - whole).reshape(height * width, -1).T
    down = (np.roll(whole, -1, axis=1) - whole).reshape(height * width, -1).T
    source = image.reshape(channels, -1).T * 255 / 256
    smooth, beta = source, 2 * strength
    while beta < 1e5:
        h, v = across @ smooth, down @ smooth
        flat = (h**2 + v**2).sum(axis=1) < strength / beta
        h[flat], v[flat] = 0, 0
        left = np.eye(height * width) + beta * (across.T @ across + down.T @ down)
        smooth = np.linalg.solve(left, source + beta * (across.T @ h + down.T @ v))
        beta *= 2
    return np.clip(smooth.T.reshape(image.shape) * 256 / 255, 0, 1)


def test_l0_smoothing_solves_its_equations_for_each_image_with_its_own_strength():
    x, strengths = images(3, 6)[..., :5], [1.2e-3, 4e-3, 0.02]
    x = 0.5 * x + 0.5 * (x[:, :, :1, :1] > 0.4)  # some edges, some not
    ours = l0_smooth(x, strengths)
    for image, strength, found in zip(x.numpy(), strengths, ours.numpy(), strict=True):
        np.testing.assert_allclose(found, dense_l0(image, strength), atol=1e-9)
    assert len({round(x, 4) for x in (ours - x).abs().mean((1, 2, 3)).tolist()}) == 3


def test_l0_smoothing_flattens_all_but_edges_and_stays_within_range():
    steps = torch.full((1, 3, 32, 32), 0.1)
    steps[..., 8:24, 8:24] = 1.0
    noisy = (steps + 0.02 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    smooth = l0_smooth(noisy, [4e-3])
    assert (smooth - steps).abs().mean() < 0.2 * (noisy - steps).abs().mean()
    assert smooth[0, :, 10:22, 10:22].std() < 0.2 * noisy[0, :, 10:22, 10:22].std()
    assert (smooth[..., 16, 9] - smooth[..., 16, 6]).min() > 0.85  # pixels of either side of an edge
    assert smooth.max() <= 1
    assert smooth.min() >= 0
    torch.testing.assert_close(l0_smooth(torch.full((1, 3, 8, 8), 0.3), [2e-3]), torch.full((1, 3, 8, 8), 0.3))


def test_what_the_published_smoothing_leaves_is_black():
    x = torch.cat([images(), torch.ones(1, 3, 9, 9)])
    x[0, 1] = 1
    expected = torch.zeros_like(x)
    expected[2] = expected[0, 1] = 1
    assert torch.equal(SmoothToBlack.take(x, [SmoothToBlack()] * 3), expected)


def test_noise_has_the_covariance_of_its_root_and_the_seed_of_its_image():
    root = np.array([[0.02, 0.01, 0.0], [0.0, 0.015, -0.01], [0.0, 0.0, 0.01]])
    grey = torch.full((2, 3, 150, 150), 0.5)
    noise = Noise.take(grey, [Noise(root, 1), Noise(2 * root, 2)]) - grey
    for scale, found in zip((1, 2), noise, strict=True):
        covariance = np.cov(found.flatten(1).numpy())
        np.testing.assert_allclose(covariance, scale**2 * root.T @ root, atol=0.04 * (scale * 0.02) ** 2)
    assert torch.equal(Noise.take(grey[:1], [Noise(2 * root, 2)])[0] - grey[0], noise[1])
    assert abs(np.corrcoef(noise[0, 0].flatten(), noise[1, 0].flatten())[0, 1]) < 0.03
    assert Noise.take(torch.ones(1, 3, 9, 9), [Noise(root, 1)]).max() == 1
