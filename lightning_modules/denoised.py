"""What a diffusion method sees of a batch at one training step."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Denoised"]


@dataclass(frozen=True)
class Denoised:
    """A batch at one training step.

    Args:
        x0: (N, C, H, W) clean pictures.
        x_t: (N, C, H, W) the same noised.
        t: (N,) int64.
        noise: (N, C, H, W).
        labels: (N,) or none.
        output: (N, C or 2C, H, W) what the network made of x_t.
    """

    x0: Tensor
    x_t: Tensor
    t: Tensor
    noise: Tensor
    labels: Tensor | None
    output: Tensor
