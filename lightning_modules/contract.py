"""What every method offers to those who use its pictures: callbacks, metrics, ``predict`` and ``test``."""

from typing import Protocol

from torch import Tensor

__all__ = ["ImageGenerator"]


class ImageGenerator(Protocol):
    """A method that draws pictures."""

    averaged: tuple[str, ...]
    """Submodules that an EMA follows."""

    def sample(self, seeds: Tensor, condition: Tensor | None = None, preview: bool = False) -> Tensor:
        """Draw pictures; each depends on its own seed (and condition) alone.

        Args:
            seeds: (N,) int64.
            condition: What the method is conditioned on, first dimension N.
            preview: For looking at during training: as quickly as the method can. Never for a metric.

        Returns:
            (N, C, H, W) float32 in [-1, 1]
        """
        ...
