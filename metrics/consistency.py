"""Whether enlarged images show what they were enlarged from."""

import math

import torch
from torch import Tensor

from tenshot.errors import InputError
from tenshot.metrics.base import ImageMetric, Report

__all__ = ["Consistency"]


class Consistency(ImageMetric):
    """How far enlarged images, made small again, are from the low-resolution images that they were drawn from.

    ``consistency_psnr``: peak signal-to-noise ratio in dB, 10 log10(2² / MSE) of images in [-1, 1], the MSE over all
    images; ``consistency_rmse``: the root of that MSE. A method that ignores its condition is at about 10 dB. Where
    noise is added to the condition, less consistency is to be expected.
    """

    needs = ("low_res",)
    more_is_better = (True, False)
    squares: Tensor
    count: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("squares", torch.zeros((), dtype=torch.float64))
        self.add_sum("count", torch.tensor(0))
        self.add_sum("images", torch.tensor(0))

    def update(self, images: Tensor, low_res: tuple[Tensor, Tensor]) -> None:
        """Add enlarged images.

        Args:
            images: (N, 3, H, W); not looked at.
            low_res: What they were drawn from, and the same made from them: (N, 3, h, w) each, float in [-1, 1].

        Raises:
            InputError: The two are of different shapes.
        """
        given, made = low_res
        if given.shape != made.shape:
            raise InputError(
                f"low-resolution images of {tuple(given.shape)} cannot be compared with those of {tuple(made.shape)}"
            )
        self.squares = self.squares + (given.double() - made.double()).square().sum().cpu()
        self.count, self.images = self.count + given.numel(), self.images + len(given)

    def names(self) -> tuple[str, ...]:
        """The ratio and the error."""
        return "consistency_psnr", "consistency_rmse"

    def evaluate(self) -> Report:
        """Both; NaN for no image, infinite dB for no difference."""
        settings = {"n_generated": int(self.images)}
        if int(self.count) == 0:
            return Report(dict.fromkeys(self.names(), math.nan), settings, {"why": "there is no image"})
        mse = float(self.squares) / int(self.count)
        psnr = 10 * math.log10(4 / mse) if mse else math.inf
        return Report(dict(zip(self.names(), (psnr, mse**0.5), strict=True)), settings)
