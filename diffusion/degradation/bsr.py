"""The degradation that PITI's upsampler learns from: BSRGAN's (arXiv 2103.14006), lighter, with L0 smoothing."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from tenshot.diffusion.degradation.kernels import Interpolation, gaussian_kernel, shifted_gaussian
from tenshot.diffusion.degradation.steps import (
    Blur,
    Compress,
    Noise,
    Resize,
    Shrink,
    Smooth,
    SmoothToBlack,
    Step,
    take_steps,
)
from tenshot.errors import InputError
from tenshot.losses.arithmetic import full_precision

__all__ = ["Degradation"]

INTERPOLATIONS: tuple[Interpolation, ...] = ("linear", "cubic", "area")

HALVED_FIRST, BLURRED, RESIZED_AT_RANDOM, COMPRESSED, SMOOTHED = 0.25, 0.8, 0.8, 0.5, 0.2
"""Shares of the images."""

QUALITY = (80, 95)
STRENGTH = (1.2e-3, 4e-3)
NOISE = (1, 2)
"""Standard deviation of the noise, in levels of 255."""


@dataclass(frozen=True)
class Degradation:
    """Makes the low-resolution images of training as poor as those that a base draws.

    Blur, two resizings, noise, JPEG and L0 smoothing in a random order (PITI, arXiv 2205.12952, section 3.3, with the
    numbers of its code). What is drawn for an image depends on its seed alone, and so does the image, on a CPU to the
    last bit; other kinds of device draw other noise. PyTorch's global generators are left alone.

    Args:
        official: As in PITI's code, whose smoothing makes a fifth of the images black (all but for later noise);
            PITI's released upsamplers probably saw these.
    """

    official: bool = False

    def __call__(self, images: Tensor, size: int, seeds: Iterable[int] | Tensor) -> Tensor:
        """Degraded images of another size.

        Args:
            images: (N, 3, S, S) in [-1, 1].
            size: Of the result; S is a multiple of it. PITI's is a quarter.
            seeds: N numbers, not negative, one an image; a tensor (N,) int64 best on the CPU, where they are needed.

        Returns:
            (N, 3, size, size), at 256 levels in [-1, 1], at least float32.

        Raises:
            InputError: The sizes do not suit each other.
        """
        height, side = images.shape[-2:]
        if height != side or size < 1 or side % size or side == size:
            raise InputError(
                f"a degradation to {size} px of images of {side} x {height}: give squares whose side is a multiple of "
                "it, twice as much or more"
            )
        plans = [self.plan(int(seed), side, size) for seed in seeds]
        # which kernels a CPU runs depends on the number of images, and on them the last bits
        together = 1 if images.device.type == "cpu" else len(images)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            levels = ((full_precision(images) + 1) / 2).clamp(0, 1)
            return (take_steps(levels, plans, together) * 255).round() / 127.5 - 1

    def plan(self, seed: int, side: int, size: int) -> list[Step]:
        """The steps from ``side`` to ``size`` pixels of the image with this seed."""
        random, factor = Random(seed), side // size
        steps: list[Step] = []
        if factor == 4 and random.random() < HALVED_FIRST:
            steps.append(Resize(side // 2, random.choice(("antialiased", random.choice(INTERPOLATIONS)))))
            side, factor = side // 2, 2
        order = ["blur", "shrink", "resize", "noise", "compress", "smooth"]
        random.shuffle(order)
        first, second = sorted((order.index("shrink"), order.index("resize")))
        order[first], order[second] = "shrink", "resize"
        for name in order:
            match name:
                case "blur" if random.random() < BLURRED:
                    steps.append(Blur(_blur_kernel(random, factor)))
                case "shrink" if random.random() < RESIZED_AT_RANDOM:
                    shrunk = max(int(side / random.uniform(1, 2 * factor)), 1)
                    steps.append(Resize(shrunk, random.choice(INTERPOLATIONS)))
                case "shrink":
                    kernel = shifted_gaussian(25, random.uniform(0.1, 0.6 * factor), (factor - 1) / 2)
                    steps.append(Shrink(kernel, factor))
                case "resize":
                    steps.append(Resize(size, random.choice(INTERPOLATIONS)))
                case "noise":
                    steps.append(Noise(_noise_root(random), random.getrandbits(32)))
                case "compress" if random.random() < COMPRESSED:
                    steps.append(Compress(random.randint(*QUALITY)))
                case "smooth" if random.random() < SMOOTHED:
                    strength = random.uniform(*STRENGTH)
                    steps.append(SmoothToBlack() if self.official else Smooth(strength))
        return steps


def _blur_kernel(random: Random, factor: int) -> np.ndarray:
    """Of a Gaussian with two widths and an angle, or of a round one."""
    if random.random() < 0.5:
        largest = (4 + factor) / 4
        first, second, angle = largest * random.random(), largest * random.random(), math.pi * random.random()
        axis, normal = (math.cos(angle), math.sin(angle)), (math.sin(angle), -math.cos(angle))
        covariance = first * np.outer(axis, axis) + second * np.outer(normal, normal)
        return gaussian_kernel(random.randint(2, 11) + 3, covariance)
    sigma = (2 + 0.2 * factor) / 4 * random.random()
    return gaussian_kernel(random.randint(2, 4) + 3, sigma**2 * np.eye(2))


def _noise_root(random: Random) -> np.ndarray:
    """Of noise that is independent in each channel, the same in all, or correlated."""
    level, kind = random.randint(*NOISE) / 255, random.random()
    if kind > 0.6:
        return level * np.eye(3)
    if kind < 0.4:
        return level * np.outer((1, 0, 0), (1, 1, 1))
    # as published, of the largest level, and of the singular vectors of uniform numbers
    vectors = np.linalg.svd(np.array([[random.random() for _ in range(3)] for _ in range(3)]))[0]
    shares = [random.random() for _ in range(3)]
    covariance = np.abs((NOISE[1] / 255) ** 2 * vectors.T @ np.diag(shares) @ vectors)
    variances, axes = np.linalg.eigh(covariance)
    return np.sqrt(variances.clip(0))[:, None] * axes.T
