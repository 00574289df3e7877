"""Corruption of low-resolution images, against float64 loops, the process's closed form, and published numbers."""

import math
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from scipy.ndimage import correlate
from torch import Tensor

from tenshot.diffusion import (
    Augmentation,
    Blur,
    Corruption,
    DiffusionConfig,
    GaussianDiffusion,
    LowResNoise,
    downsample,
)
from tenshot.diffusion.corruption import gaussian_blur


def images(n: int = 4, side: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("sigma", "side", "centre"), [(0.4, 0.040, 0.919), (0.5, 0.107, 0.787), (1.0, 0.274, 0.452)])
def test_blur_equals_its_closed_form(sigma: float, side: float, centre: float):
    """Of each image by a sigma of its own; SciPy's ``mirror`` is PyTorch's ``reflect``."""
    e = math.exp(-1 / (2 * sigma**2))
    taps = np.array([e, 1, e]) / (1 + 2 * e)
    assert taps == pytest.approx([side, centre, side], abs=6e-4)
    z = images().double()
    ours = gaussian_blur(z, torch.tensor([0.3, sigma, 0.8, 0.6], dtype=torch.float64))
    expected = [correlate(channel, np.outer(taps, taps), mode="mirror") for channel in z[1].numpy()]
    np.testing.assert_allclose(ours[1].numpy(), expected, atol=1e-14)
    assert len({round((a - b).abs().mean().item(), 6) for a, b in zip(ours, z, strict=True)}) == 4


def test_a_part_of_the_images_is_blurred_each_on_its_own_and_constants_stay():
    spots = torch.zeros(400, 1, 5, 5)
    spots[:, :, 2, 2] = 1
    torch.manual_seed(0)
    z, s = Corruption(Augmentation(blur=Blur(0.4, 0.6, prob=0.25)))(spots)
    blurred = z[:, 0, 2, 2] < 1
    assert blurred.float().mean() == pytest.approx(0.25, abs=0.07)
    centres = z[blurred][:, 0, 2, 2].sqrt()
    assert centres.min() > 1 / (1 + 2 * math.exp(-1 / (2 * 0.6**2))) - 1e-6
    assert centres.max() < 1 / (1 + 2 * math.exp(-1 / (2 * 0.4**2))) + 1e-6
    assert len(centres.unique()) == len(centres)
    assert z.sum((1, 2, 3)) == pytest.approx(np.ones(400))  # weights add up to 1
    assert not s.any()
    constant = torch.full((3, 3, 4, 4), 0.3)
    torch.testing.assert_close(gaussian_blur(constant, torch.tensor([0.1, 0.5, 2.0])), constant)


def test_z_s_has_the_mean_and_the_variance_of_q():
    """Against the product of 1 - beta by hand: s counts from 1, and 0 is clean."""
    steps, s = 100, 40
    corruption = Corruption(Augmentation(LowResNoise(steps, "linear", s_min=s, s_max=s)))
    z = images(1, 4).expand(20_000, -1, -1, -1)
    torch.manual_seed(0)
    z_s, drawn = corruption(z)
    alpha_bar = np.prod(1 - np.linspace(1e-3, 0.2, steps)[:s])
    assert set(drawn.tolist()) == {s}
    np.testing.assert_allclose(z_s.mean(0), math.sqrt(alpha_bar) * z[0], atol=0.03)
    np.testing.assert_allclose(z_s.var(0), 1 - alpha_bar, rtol=0.05)
    assert corruption.noise_std(s) == pytest.approx(math.sqrt(1 - alpha_bar))
    pixels = (z_s - math.sqrt(alpha_bar) * z).flatten(1)
    assert (torch.corrcoef(pixels.T) - torch.eye(48)).abs().max() < 0.04  # white, at its own resolution


@pytest.mark.parametrize(("s", "std"), [(101, 0.050), (501, 0.206), (1001, 0.391), (1501, 0.562)])
def test_the_noise_of_s_is_that_of_the_paper_and_of_the_base_that_stops_there(s: int, std: float):
    """s steps of the base's chain of T = 4000 are left to go: it has done those of index T - 1 … s."""
    corruption = Corruption(Augmentation(LowResNoise(4000, "cosine")))
    base = GaussianDiffusion(DiffusionConfig(4000, "cosine"))
    assert corruption.noise_std(s) == pytest.approx(std, abs=6e-4)
    assert corruption.noise_std(s) == pytest.approx(base.sqrt_one_minus_alphas_cumprod[s - 1])
    assert corruption.told(s) == f"s = {s} (noise std {std:.3f})"


def test_no_step_is_no_noise_to_the_last_bit():
    z, noise = images(), images(seed=1)
    corruption = Corruption(Augmentation(LowResNoise(50)))
    assert torch.equal(corruption.noised(z, torch.zeros(4, dtype=torch.int64), noise), z)
    mixed = corruption.noised(z, torch.tensor([0, 10, 0, 50]), noise)
    assert torch.equal(mixed[0], z[0])
    assert not torch.equal(mixed[1], z[1])
    torch.testing.assert_close(mixed[3], noise[3], atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (LowResNoise(9), range(1, 10)),
        (LowResNoise(9, s_max=4), range(1, 5)),
        (LowResNoise(9, s_min=0, s_max=2), range(3)),
        (None, range(1)),
    ],
)
def test_each_image_has_a_step_of_its_own_in_the_range(noise: LowResNoise | None, expected: range):
    corruption = Corruption(Augmentation(noise))
    torch.manual_seed(0)
    assert corruption.steps == expected
    assert set(corruption(images(500, 2))[1].tolist()) == set(expected)


def test_neither_leaves_images_and_generator_alone():
    z, before = images(), torch.get_rng_state()
    assert torch.equal(Corruption(Augmentation())(z)[0], z)
    assert torch.equal(torch.get_rng_state(), before)


def test_low_resolution_images_are_means_or_antialiased():
    x = images(2, 8)
    np.testing.assert_allclose(
        downsample(x, 4), x.double().reshape(2, 3, 4, 2, 4, 2).mean((3, 5)), atol=1e-6
    )  # guided-diffusion's
    grey = 0.2 * torch.randn(32, 32)
    theirs = np.asarray(Image.fromarray(grey.numpy()).resize((8, 8), Image.Resampling.BICUBIC))  # antialiased too
    np.testing.assert_allclose(downsample(grey[None, None], 8, "bicubic")[0, 0], theirs, atol=1e-5)
    step = torch.tensor([-1.0] * 8 + [1.0] * 8).expand(1, 1, 16, 16)
    assert downsample(step, 8, "bicubic").abs().max() <= 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Blur(sigma_min=0.0), ["--model.augmentation.blur.sigma_min is 0.0"]),
        (lambda: Blur(sigma_min=0.7), ["--model.augmentation.blur.sigma_max is 0.6", "at least 0.7"]),
        (lambda: Blur(prob=1.5), ["--model.augmentation.blur.prob is 1.5"]),
        (lambda: LowResNoise(20, "linear"), ["--model.augmentation.noise.num_steps is 20", "at least 21"]),
        (lambda: LowResNoise(100, s_max=101), ["--model.augmentation.noise.s_max is 101", "1 to 100"]),
        (lambda: LowResNoise(100, s_min=5, s_max=4), ["--model.augmentation.noise.s_min is 5", "0 to 4"]),
        (lambda: LowResNoise(100, "cosin"), ["--model.augmentation.noise.schedule 'cosin'", "'cosine'"]),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be(make: Any, words: list[str]):
    tiny.refusal(make, *words)
