"""Conditioning augmentation: how the low-resolution images are corrupted that a super-resolution stage learns from.

Stages are trained on true low-resolution images and draw from generated ones; corruption hides the difference (cascaded
diffusion models, arXiv 2106.15282, section 4). It is applied at the low resolution, before the images are enlarged.

s is a step of the process of the *base*, counted from 1; 0 is a clean image. Where it is shown, the standard deviation
of its noise, sqrt(1 - alpha-bar_s), stands beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.diffusion.config import DiffusionConfig, Schedule
from tenshot.diffusion.gaussian import GaussianDiffusion
from tenshot.errors import InputError, check_range
from tenshot.losses.arithmetic import check_choice, full_precision

__all__ = [
    "Augmentation", "Blur", "Corruption", "Downsampling", "LowResNoise", "downsample", "gaussian_blur", "upsample",
]  # fmt: skip

Downsampling = Literal["area", "bicubic"]


@dataclass(frozen=True)
class Blur:
    """Gaussian blur in training, of which the network is not told; never in drawing.

    Args:
        sigma_min: The least standard deviation in low-resolution pixels; each image draws its own uniformly.
        sigma_max: The largest.
        prob: Part of the images that is blurred.
    """

    sigma_min: float = 0.4
    sigma_max: float = 0.6
    prob: float = 0.5

    def __post_init__(self) -> None:
        check_range("--model.augmentation.blur.sigma_min", self.sigma_min, 0, above=True)
        check_range("--model.augmentation.blur.sigma_max", self.sigma_max, self.sigma_min)
        check_range("--model.augmentation.blur.prob", self.prob, 0, 1)


@dataclass(frozen=True)
class LowResNoise:
    """Gaussian noise as the base's process adds it in s steps, of which the network is told s.

    Args:
        num_steps: Length of the base's process.
        schedule: Of the base's process.
        s_min: The least s in training; 0 lets images be clean.
        s_max: The largest s in training; none: num_steps.
    """

    num_steps: int = 1000
    schedule: Schedule = "cosine"
    s_min: int = 1
    s_max: int | None = None

    def __post_init__(self) -> None:
        option = "--model.augmentation.noise"
        check_choice(f"{option}.schedule", self.schedule, Schedule)
        check_range(f"{option}.num_steps", self.num_steps, 21 if self.schedule == "linear" else 2)
        check_range(f"{option}.s_max", self.largest, 1, self.num_steps)
        check_range(f"{option}.s_min", self.s_min, 0, self.largest)

    @property
    def largest(self) -> int:
        """The largest s in training."""
        return self.num_steps if self.s_max is None else self.s_max


@dataclass(frozen=True)
class Augmentation:
    """How low-resolution images are corrupted: neither way, either, or blur and then noise.

    Args:
        noise: Gaussian noise of a random step s, of which the network is told; none: no noise.
        blur: Blur; none: no blur.
    """

    noise: LowResNoise | None = None
    blur: Blur | None = None

    @classmethod
    def of(cls, words: Mapping[str, Any] | None) -> "Augmentation":
        """From what a checkpoint records, the fields as dictionaries; neither way where it records nothing."""
        noise, blur = (words or {}).get("noise"), (words or {}).get("blur")
        return cls(LowResNoise(**noise) if noise else None, Blur(**blur) if blur else None)


@dataclass
class Corruption:
    """Corrupts low-resolution images in training, and noises them in drawing.

    Args:
        augmentation: How.
    """

    augmentation: Augmentation
    _levels: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        noise, self._alpha_bars = self.augmentation.noise, np.ones(1)
        if noise is not None:
            process = GaussianDiffusion(DiffusionConfig(noise.num_steps, noise.schedule, "fixed_small"))
            self._alpha_bars = np.append(1.0, process.alphas_cumprod)

    @property
    def steps(self) -> range:
        """The s that the network knows; 0 alone where there is no noise."""
        noise = self.augmentation.noise
        return range(1) if noise is None else range(noise.s_min, noise.largest + 1)

    def noise_std(self, s: int) -> float:
        """The standard deviation of the noise at step s, of images in [-1, 1]: sqrt(1 - alpha-bar_s)."""
        return float(np.sqrt(1 - self._alpha_bars[s]))

    def told(self, s: int) -> str:
        """A step in words, with its noise."""
        return f"s = {s} (noise std {self.noise_std(s):.3f})"

    def refuse_unknown(self, s: int, option: str) -> None:
        """Make sure that the network knows a step.

        Raises:
            InputError: It was not trained with it.
        """
        steps = self.steps
        if s in steps:
            return
        if self.augmentation.noise is None:
            raise InputError(f"{option} is {s}, but the stage was trained without noise in its condition: set it to 0")
        raise InputError(
            f"{option} is {s}, but the stage was trained with {self.told(steps[0])} to {self.told(steps[-1])}: choose "
            "one of these"
        )

    def noised(self, z: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """z_s ~ q(z_s | z_0): (N, C, h, w) (CDM, section 4.2). With s = 0 it is z, to the last bit.

        Args:
            z: (N, C, h, w), clean.
            s: (N,) int64, 0 … num_steps.
            noise: (N, C, h, w), standard normal.
        """
        z = full_precision(z)
        if z.device not in self._levels:
            tables = np.sqrt(self._alpha_bars), np.sqrt(1 - self._alpha_bars)
            signal, std = (torch.tensor(table, dtype=torch.float64, device=z.device) for table in tables)
            self._levels[z.device] = signal, std
        signal, std = (table[s].to(z.dtype).view(-1, 1, 1, 1) for table in self._levels[z.device])
        return signal * z + std * noise

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Corrupt a training batch, each image on its own, with PyTorch's global generator.

        z: (N, C, h, w) in [-1, 1]  ->  the same corrupted, and s (N,) int64
        """
        noise, blur, n = self.augmentation.noise, self.augmentation.blur, len(z)
        if blur is not None:
            sigma = blur.sigma_min + (blur.sigma_max - blur.sigma_min) * torch.rand(n, device=z.device)
            blurred = gaussian_blur(z, sigma)
            z = torch.where((torch.rand(n, device=z.device) < blur.prob).view(-1, 1, 1, 1), blurred, z)
        if noise is None:
            return z, torch.zeros(n, dtype=torch.int64, device=z.device)
        s = torch.randint(noise.s_min, noise.largest + 1, (n,), device=z.device)
        return self.noised(z, s, torch.randn_like(z)), s


def gaussian_blur(z: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image by 3 x 3 pixels of a Gaussian of its own, with reflected borders (CDM, section 4.1).

    z: (N, C, h, w), h and w at least 2; sigma: (N,) in pixels  ->  (N, C, h, w)
    """
    side = torch.exp(-1 / (2 * sigma**2)).to(z.dtype).view(-1, 1, 1, 1)
    padded = F.pad(z, (1, 1, 1, 1), mode="reflect")
    rows = (padded[..., 1:-1] + side * (padded[..., :-2] + padded[..., 2:])) / (1 + 2 * side)
    return (rows[:, :, 1:-1] + side * (rows[:, :, :-2] + rows[:, :, 2:])) / (1 + 2 * side)


def downsample(images: Tensor, size: int, how: Downsampling = "area") -> Tensor:
    """The low-resolution versions of images.

    Args:
        images: (N, C, H, W) in [-1, 1].
        size: Side of the result.
        how: ``area``: means of pixels, as guided-diffusion trained its upsamplers, and as data modules halve images;
            ``bicubic``: antialiased, clamped to [-1, 1].
    """
    if how == "area":
        return F.interpolate(images, (size, size), mode="area")
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)


def upsample(z: Tensor, size: int) -> Tensor:
    """Low-resolution images brought to the size of the stage as its network does, bilinearly: (N, C, size, size)."""
    return F.interpolate(z, (size, size), mode="bilinear", align_corners=False)
