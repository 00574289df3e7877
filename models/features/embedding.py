"""Networks that embed images, so that the distance of two images is the squared distance of two rows of numbers."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

__all__ = ["EmbeddingNetwork", "Rows", "distances", "unit_rows"]

Rows = list[Tensor]
"""Embedded images, one tensor (N, D_l) for each tap l: together a row for each image, too long to copy together."""

EPS = 1e-10


class EmbeddingNetwork(nn.Module):
    """A frozen network and its distance of images, d(x, y) = sum_l |u_l(x) - u_l(y)|², u_l the row of tap l."""

    name: str
    """What its distances are called."""

    sha256: dict[str, str]
    """Hashes of its weights or of their files."""

    resize: int | None
    """Side in pixels to which it resizes images; none: it takes them as they are."""

    copy_distance: float = 0.1
    """Distance below which an image is called a copy."""

    @abstractmethod
    def embed(self, images: Tensor) -> Rows:
        """The rows of images.

        Args:
            images: (N, 3, H, W) float32 in [-1, 1].

        Returns:
            For each tap (N, D_l) float32.

        Raises:
            InputError: The images are too small for the network.
        """

    def check_size(self, height: int, width: int) -> None:
        """Raise an error where images of this size leave nothing at the last tap.

        Raises:
            InputError: They are too small for the network.
        """

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance of each pair.

        x, y: (N, 3, H, W) float32 in [-1, 1]  ->  (N,) float32
        """
        return distances(self.embed(x), self.embed(y))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.parameters()).device


def unit_rows(x: Tensor, root: Tensor | float = 1.0, kept: Tensor | None = None) -> Tensor:
    """One tap of the rows: u = sqrt(w / (H W)) φ, where φ are activations of length 1 over the channels.

    Args:
        x: (N, C, H, W) activations.
        root: sqrt(w), (C',) of the channels that are kept.
        kept: (C',) their numbers; none: all.

    Returns:
        (N, H W C')
    """
    length = torch.linalg.vector_norm(x, dim=1).add_(EPS)  # (N, H, W)
    x = x.permute(0, 2, 3, 1)  # (N, H, W, C), which is how it lies in memory
    if kept is not None:
        x = x[..., kept]
    return (x / length[..., None]).mul_(root / math.sqrt(length[0].numel())).flatten(1)


def distances(x: Rows, y: Rows) -> Tensor:
    """Squared distances of rows, pair by pair, exact for near-copies too: (N, D_l), (N, D_l)  ->  (N,)"""
    return torch.stack([(a - b).square_().sum(dim=1) for a, b in zip(x, y, strict=True)]).sum(dim=0)
