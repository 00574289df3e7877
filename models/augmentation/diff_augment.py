"""DiffAugment: random colour, translation and cutout of every image that a discriminator sees (arXiv 2006.10738)."""

import torch
from torch import Tensor, nn

from tenshot.errors import InputError, did_you_mean

__all__ = ["DiffAugment"]


class DiffAugment(nn.Module):
    """Differentiable augmentation, always on, different for each image of a batch.

    Args:
        policy: What is applied, in this order, separated by commas: ``color`` (brightness, saturation, contrast),
            ``translation`` (up to an eighth of the side), ``cutout`` (a square of half the side).

    Raises:
        InputError: An unknown part of the policy.
    """

    def __init__(self, policy: str = "color,translation,cutout") -> None:
        super().__init__()
        self.policy = tuple(part.strip() for part in policy.split(","))
        for part in self.policy:
            if part not in PARTS:
                raise InputError(
                    f"DiffAugment.policy has {part!r}{did_you_mean(part, PARTS)}: choose from {', '.join(PARTS)}, "
                    "separated by commas"
                )

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, C, H, W), which colour may take out of [-1, 1]; float32 under autocast too."""
        images = images.to(torch.promote_types(images.dtype, torch.float32))
        for part in self.policy:
            images = PARTS[part](images)
        return images


def _color(x: Tensor) -> Tensor:
    brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, dtype=x.dtype, device=x.device)
    x = x + (brightness - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def _translation(x: Tensor) -> Tensor:
    """By whole pixels, with 0 moving in."""
    for axis in (2, 3):
        size = x.shape[axis]
        most = int(size / 8 + 0.5)
        shift = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
        source = torch.arange(size, device=x.device) + shift  # (N, size)
        x = x.gather(axis, _along(axis, source.clamp(0, size - 1)).expand_as(x))
        x = x * _along(axis, (source >= 0) & (source < size))
    return x


def _cutout(x: Tensor) -> Tensor:
    """A square of 0, cut off where it leaves the image."""
    outside = torch.zeros(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
    for axis in (2, 3):
        size = x.shape[axis]
        side = int(size / 2 + 0.5)
        centre = torch.randint(size + 1 - side % 2, (len(x), 1), device=x.device)
        first = centre - side // 2
        position = torch.arange(size, device=x.device)
        outside = outside | _along(axis, (position < first) | (position >= first + side))
    return x * outside


def _along(axis: int, values: Tensor) -> Tensor:
    """(N, size) -> (N, 1, size, 1) for axis 2, (N, 1, 1, size) for axis 3."""
    return values[:, None, :, None] if axis == 2 else values[:, None, None]


PARTS = {"color": _color, "translation": _translation, "cutout": _cutout}
