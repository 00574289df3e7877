"""What every method offers to those who use its images: callbacks, metrics, ``predict`` and ``test``."""

from collections.abc import Mapping
from typing import Literal, Protocol, Self, runtime_checkable

from torch import Tensor

__all__ = ["AdjustableGenerator", "ImageGenerator", "LatentGenerator"]


class ImageGenerator(Protocol):
    """A method that draws images."""

    averaged: tuple[str, ...]
    """Submodules that an EMA follows."""
    num_classes: int | None
    """How many classes ``label`` counts; none where the method takes none."""

    def sample(self, seeds: Tensor, condition: Mapping[str, Tensor] | None = None, preview: bool = False) -> Tensor:
        """Draw images; each depends on its own seed (and condition) alone.

        Args:
            seeds: (N,) int64.
            condition: What the images are to be like, such as ``label``; each of N rows.
            preview: For looking at during training: as quickly as the method can. Never for a metric.

        Returns:
            (N, C, H, W) float32 in [-1, 1]
        """
        ...


@runtime_checkable
class LatentGenerator(Protocol):
    """What a method offers besides whose images come from latents between which one can go; none of it needs to be.

    Path length, path uniformity and interpolation strips use it. The image of a seed is
    ``decode(latents(seed, space), seed, space)``, in either space.
    """

    def latents(self, seeds: Tensor, space: Literal["z", "w"]) -> Tensor:
        """The latents of seeds; each depends on its own seed alone.

        Args:
            seeds: (N,) int64.
            space: ``z``, where the prior is (normal, so that one goes along great circles), or ``w``, where the network
                has mapped it to (in which one goes straight).

        Returns:
            (N, D) float32
        """
        ...

    def decode(self, latents: Tensor, noise_seeds: Tensor, space: Literal["z", "w"]) -> Tensor:
        """The images of latents, not clamped, in the precision of the caller: float32 outside of autocast.

        Args:
            latents: (N, D) of that space, as ``latents`` gives them, or anything between those.
            noise_seeds: (N,) int64, of all that is random besides; equal seeds, equal noise.
            space: Where the latents are from.

        Returns:
            (N, C, H, W) float32, in [-1, 1] or somewhat beyond
        """
        ...


@runtime_checkable
class AdjustableGenerator(Protocol):
    """What a method offers besides whose images can be drawn in several ways; none of it needs to be.

    ``tenshot search`` looks for the best way once the weights are trained.
    """

    drawing: tuple[str, ...]
    """Options of the method that change how images are drawn and nothing else, dotted, such as ``guidance.scale``; of
    a group of options, such as ``sampler``, all that it holds."""

    def draw_as(self, other: Self) -> None:
        """Draw from now on as another one of the class would that had these weights.

        Args:
            other: As it was configured; its networks need not be built.

        Raises:
            InputError: The networks cannot be drawn from so.
        """
        ...
