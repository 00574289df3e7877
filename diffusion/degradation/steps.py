"""The steps of a degradation, each taken by many images of one size at once."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from tenshot.diffusion.degradation.jpeg import jpeg
from tenshot.diffusion.degradation.kernels import Interpolation, filtered, resized
from tenshot.diffusion.degradation.smoothing import l0_smooth

__all__ = ["Blur", "Compress", "Noise", "Resize", "Shrink", "Smooth", "SmoothToBlack", "Step", "take_steps"]


@dataclass(frozen=True, eq=False)
class Step(ABC):
    """What happens to one image, with the numbers that were drawn for it."""

    @property
    def kind(self) -> Hashable:
        """Images whose steps are of one kind take them together."""
        return type(self)

    @classmethod
    @abstractmethod
    def take(cls, images: Tensor, steps: Sequence[Self]) -> Tensor:
        """(N, 3, S, S) in [0, 1] and their N steps, of one kind  ->  (N, 3, S', S') in [0, 1]"""


@dataclass(frozen=True, eq=False)
class Blur(Step):
    """kernel: (K, K), with a sum of 1; even ones also move the image by half a pixel."""

    kernel: np.ndarray

    @property
    def kind(self) -> Hashable:
        """Of one size of kernel."""
        return Blur, len(self.kernel)

    @classmethod
    def take(cls, images: Tensor, steps: Sequence[Self]) -> Tensor:
        """Convolve."""
        return filtered(images, _kernels(images, steps))


@dataclass(frozen=True, eq=False)
class Shrink(Blur):
    """kernel: (K, K), with a sum of 1; stride: of the pixels that are kept."""

    stride: int

    @property
    def kind(self) -> Hashable:
        """Of one size of kernel and one stride."""
        return Shrink, len(self.kernel), self.stride

    @classmethod
    def take(cls, images: Tensor, steps: Sequence[Self]) -> Tensor:
        """Convolve, and leave pixels out."""
        return filtered(images, _kernels(images, steps), steps[0].stride).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Resize(Step):
    """side: in pixels; how: by which interpolation."""

    side: int
    how: Interpolation

    @property
    def kind(self) -> Hashable:
        """Of one side and interpolation."""
        return Resize, self.side, self.how

    @classmethod
    def take(cls, images: Tensor, steps: Sequence[Self]) -> Tensor:
        """Interpolate."""
        return resized(images, steps[0].side, steps[0].how).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Noise(Step):
    """root: (3, 3) R, where RᵀR is the covariance of a pixel's channels; seed: of the noise."""

    root: np.ndarray
    seed: int

    @classmethod
    def take(cls, images: Tensor, steps: Sequence[Self]) -> Tensor:
        """Add z R, of independent standard normal z."""
        roots = torch.from_numpy(np.stack([step.root for step in steps])).to(images)
        z = torch.stack([normal(step.seed, images.shape[-1], images.device) for step in steps])
        return (images + torch.einsum("nkhw,nkc->nchw", z.to(images.dtype), roots)).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Compress(Step):
    """quality: JPEG's, 1 … 100."""

    quality: int

    @classmethod
    def take(cls, images: Tensor, steps: Sequence[Self]) -> Tensor:
        """Round to 256 levels, write as JPEG and read."""
        return jpeg(images, [step.quality for step in steps])


@dataclass(frozen=True, eq=False)
class Smooth(Step):
    """strength: lambda of the L0 smoothing."""

    strength: float

    @classmethod
    def take(cls, images: Tensor, steps: Sequence[Self]) -> Tensor:
        """Smooth."""
        return l0_smooth(images, [step.strength for step in steps])


@dataclass(frozen=True, eq=False)
class SmoothToBlack(Step):
    """What becomes of L0 smoothing in PITI's code, which takes the levels 0 … 1 for 0 … 255 and cuts the rest off.

    Every edge is below its threshold and a channel becomes its mean, which is below 1, and hence 0.
    """

    @classmethod
    def take(cls, images: Tensor, steps: Sequence[Self]) -> Tensor:
        """Black, but for channels that are 1 all over."""
        return images.amin(dim=(2, 3), keepdim=True).floor().expand_as(images)


def _kernels(images: Tensor, steps: Sequence[Blur]) -> Tensor:
    return torch.from_numpy(np.stack([step.kernel for step in steps])).to(images)


def normal(seed: int, side: int, device: torch.device) -> Tensor:
    """(3, side, side) standard normal numbers of a seed; other kinds of device draw others."""
    return torch.randn(3, side, side, generator=torch.Generator(device).manual_seed(seed), device=device)


def take_steps(images: Tensor, plans: Sequence[Sequence[Step]], together: int) -> Tensor:
    """Each image's own steps, one after another; images of one size that do the same next do it at once.

    Args:
        images: (N, 3, S, S) in [0, 1].
        plans: The steps of each; all lead to one size.
        together: How many images at most do something at once.

    Returns:
        (N, 3, s, s) in [0, 1].
    """
    current = list(images)
    for number in range(max(map(len, plans))):
        groups: dict[Hashable, list[int]] = {}
        for i, plan in enumerate(plans):
            if number < len(plan):
                groups.setdefault((plan[number].kind, current[i].shape[-1]), []).append(i)
        for members in groups.values():
            for first in range(0, len(members), together):
                part = members[first : first + together]
                steps = [plans[i][number] for i in part]
                taken = type(steps[0]).take(torch.stack([current[i] for i in part]), steps)
                for i, image in zip(part, taken, strict=True):
                    current[i] = image
    return torch.stack(current)
