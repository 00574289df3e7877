"""Which regularisers a StyleGAN2 is trained with, and how often."""

from dataclasses import dataclass

from tenshot.errors import check_range

__all__ = ["Regularization"]


@dataclass(frozen=True)
class Regularization:
    """The lazy regularisers of StyleGAN2: optimiser steps of their own, every so many steps, with as much more weight.

    Args:
        r1: Weight of the gradient penalty on real images (gamma; half of it times the squared norm); 0: none.
        r1_every: Steps between two of them.
        path_length: Weight of the path length penalty; 0: none.
        path_length_every: Steps between two of them.
        path_length_shrink: By how much its batch is smaller than the others.
        path_length_decay: Share of each batch in the running mean of path lengths.
    """

    r1: float = 10.0
    r1_every: int = 16
    path_length: float = 2.0
    path_length_every: int = 4
    path_length_shrink: int = 2
    path_length_decay: float = 0.01

    def __post_init__(self) -> None:
        for name in ("r1", "path_length"):
            check_range(f"--model.regularization.{name}", getattr(self, name), 0)
        for name in ("r1_every", "path_length_every", "path_length_shrink"):
            check_range(f"--model.regularization.{name}", getattr(self, name), 1)
        check_range("--model.regularization.path_length_decay", self.path_length_decay, 0, 1, above=True)
