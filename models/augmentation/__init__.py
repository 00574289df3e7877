"""Differentiable augmentation of what a discriminator sees."""

from tenshot.models.augmentation.adaptive import AdaptiveAugment
from tenshot.models.augmentation.diff_augment import DiffAugment

__all__ = ["AdaptiveAugment", "DiffAugment"]
