"""Adaptive discriminator augmentation: as much of it as keeps the discriminator from overfitting (arXiv 2006.06676)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.models.augmentation.transforms import (
    COLOR,
    GEOMETRY,
    color_matrices,
    draw,
    geometry_matrices,
    selected_transforms,
)
from tenshot.models.augmentation.warp import warp

__all__ = ["AdaptiveAugment"]


class AdaptiveAugment(nn.Module):
    """Random transforms of each image that a discriminator sees, with a probability that follows its overfitting.

    The measure of overfitting is r, the mean sign of the discriminator's outputs for real images: :meth:`observe`
    collects it, and every few iterations (4 as published) :meth:`adjust` moves the probability. All of it happens on
    the device; the host never waits.

    Args:
        probability: That a transform is applied to an image, fixed; without one it adapts, from 0 on.
        target: r above which the probability rises and below which it falls.
        images_to_full: Real images seen while the probability goes from 0 to 1.
        transforms: Groups in one word, of which b are blits, g geometric and c those of colour, or a list of names:
            xflip, rotate90, xint; scale, rotate, aniso, xfrac; brightness, contrast, lumaflip, hue, saturation.

    Raises:
        InputError: A transform that is not known, or numbers out of range.
    """

    probability: Tensor
    """() what it is now."""
    signs: Tensor
    """(2,) sum of the signs, and number of real images, since the last adjustment."""

    def __init__(
        self,
        probability: float | None = None,
        target: float = 0.6,
        images_to_full: int = 500_000,
        transforms: str | Sequence[str] = "bgc",
    ) -> None:
        super().__init__()
        if probability is not None and not 0 <= probability <= 1:
            raise InputError(f"AdaptiveAugment.probability is {probability}: choose from 0 to 1, or none to adapt it")
        if not -1 <= target <= 1:
            raise InputError(f"AdaptiveAugment.target is {target}: choose from -1 to 1; a mean of signs lies there")
        if images_to_full < 1:
            raise InputError(f"AdaptiveAugment.images_to_full is {images_to_full}: choose at least 1")
        names = selected_transforms(transforms)
        self.geometry = tuple(name for name in GEOMETRY if name in names)
        self.color = tuple(name for name in COLOR if name in names)
        self.fixed = probability
        self.target = target
        self.images_to_full = images_to_full
        self.register_buffer("probability", torch.tensor(probability or 0.0))
        self.register_buffer("signs", torch.zeros(2))

    def forward(self, images: Tensor, matrices: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Transform each image by its own draw; differentiable twice. What no transform meets comes back unchanged.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            matrices: Instead of drawing: (N, 2, 3) for :func:`warp` and (N, 3, 4) from (R, G, B, 1) to (R, G, B).

        Returns:
            (N, 3, H, W), float32 under autocast too (float64 stays), which colour may take out of [-1, 1].
        """
        with torch.autocast(images.device.type, enabled=False):
            images = images.to(torch.promote_types(images.dtype, torch.float32))
            if matrices is not None:
                return _recolor(warp(images, matrices[0]), matrices[1])
            if self.fixed == 0:
                return images
            (count, _, height, width), device = images.shape, images.device
            probability = self.probability if self.fixed is None else self.fixed
            if self.geometry:
                strengths = draw(self.geometry, count, probability, device)
                images = warp(images, geometry_matrices(strengths, height, width))
            if self.color:
                images = _recolor(images, color_matrices(draw(self.color, count, probability, device)))
            return images

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        if self.fixed is not None:  # what is set now holds, not that of the checkpoint
            self.probability.fill_(self.fixed)

    @torch.no_grad()
    def observe(self, real_logits: Tensor) -> None:
        """Note the discriminator's outputs for augmented real images.

        Args:
            real_logits: (N,) or maps (N, 1, h, w), of which each counts as one image: its signs are averaged.
        """
        signs = real_logits.float().sign().reshape(len(real_logits), -1).mean(dim=1)
        self.signs[0] += signs.sum()
        self.signs[1] += len(signs)

    @torch.no_grad()
    def adjust(self, totals: Tensor | None = None) -> Tensor:
        """Move the probability by one step towards the target and start counting again. A fixed one stays.

        Args:
            totals: (2,) sum of ``signs`` over all ranks, where there are several.

        Returns:
            () r: the mean sign since the last adjustment, 0 when nothing was observed.
        """
        total, count = self.signs if totals is None else totals
        overfitting = total / count.clamp(min=1)
        if self.fixed is None:
            step = (overfitting - self.target).sign() * count / self.images_to_full
            self.probability.add_(step).clamp_(0, 1)
        self.signs.zero_()
        return overfitting


def _recolor(images: Tensor, matrices: Tensor) -> Tensor:
    """(N, 3, H, W), (N, 3, 4) -> (N, 3, H, W)."""
    matrices = matrices.to(images)
    return torch.baddbmm(matrices[:, :, 3:], matrices[:, :, :3], images.flatten(2)).view_as(images)
