"""Whether generated images have the depth that they were drawn from."""

import math

import torch
from torch import Tensor, nn

from tenshot.datamodules.pairs import ConditionKind, depth_map, require_grey
from tenshot.metrics.base import Report
from tenshot.metrics.predictor_metric import TRUE_IMAGES, PredictorMetric, beside_true_images

__all__ = ["DepthError", "aligned"]


class DepthError(PredictorMetric):
    """Error of the depth that a network finds in samples, against the depth maps that they were drawn from.

    For each image what is found is first scaled and shifted to the depth map by least squares, as is usual where depth
    has no unit (MiDaS, arXiv 1907.01341). ``depth_rmse``: root mean squared error, of values from 0 to 1;
    ``depth_abs_rel``: mean of the absolute error over the true value; each of an image, then the mean over images. The
    values are those of the files, 0 … 255 as 0 … 1, whatever they mean; pixels of 0 have no depth and are left out, and
    so are images of fewer than two others.

    Args:
        predictor: See :class:`PredictorMetric`; the last channel of what it gives is the depth.
        kind: What the conditions are.
    """

    needs = ("depth", "predictor")
    more_is_better = (False, None, False, None)
    wanted, outputs = "an estimator of depth gives (N, 1, H, W)", 1
    sums: Tensor
    real_sums: Tensor
    images: Tensor
    real_images: Tensor

    def __init__(self, predictor: str | nn.Module, kind: ConditionKind | None = None) -> None:
        super().__init__(predictor, kind or ConditionKind("depth"))
        for which in ("", "real_"):
            self.add_sum(f"{which}sums", torch.zeros(2, dtype=torch.float64))  # of the two errors
            self.add_sum(f"{which}images", torch.tensor(0))

    def update(self, images: Tensor, condition_image: Tensor, real: bool = False) -> None:
        """Add images.

        Args:
            images: (N, 3, H, W), float in [-1, 1] or uint8.
            condition_image: The depth maps they were drawn from, grey, uint8 (N, 3, S, S).
            real: Whether they are the true images of these depth maps, not generated.

        Raises:
            InputError: Depth in colours.
        """
        which = "real_" if real else ""
        require_grey(condition_image)
        for found, maps in self.found(images, condition_image) if len(images) else ():
            for guess, depth in zip(found[:, -1].cpu().double(), depth_map(maps).cpu().double(), strict=True):
                guess, depth = guess[depth > 0], depth[depth > 0]
                if len(depth) < 2:
                    continue
                error = aligned(guess, depth) - depth
                errors = torch.stack([error.square().mean().sqrt(), (error.abs() / depth).mean()])
                setattr(self, f"{which}sums", getattr(self, f"{which}sums") + errors)
                setattr(self, f"{which}images", getattr(self, f"{which}images") + 1)

    def names(self) -> tuple[str, ...]:
        """Root mean squared and relative error, each followed by that of the true images."""
        return beside_true_images(("depth_rmse", "depth_abs_rel"))

    def evaluate(self) -> Report:
        """All of it; NaN where no image has depth."""
        settings = {"n_generated": int(self.images), "n_real": int(self.real_images)} | self.settings()
        values: dict[str, float] = {}
        for sums, count, name in ((self.sums, self.images, ""), (self.real_sums, self.real_images, TRUE_IMAGES)):
            means = (sums / count).tolist() if int(count) else [math.nan] * 2
            values |= {f"depth_rmse{name}": means[0], f"depth_abs_rel{name}": means[1]}
        why = {"why": "no image has depth"} if any(map(math.isnan, values.values())) else {}
        return Report({name: values[name] for name in self.names()}, settings, why)


def aligned(guess: Tensor, depth: Tensor) -> Tensor:
    """A guess scaled and shifted so that its squared error to the depth is least: float64 (n,) each  ->  (n,)."""
    centred = guess - guess.mean()
    variance = centred.square().sum()
    scale = (centred * depth).sum() / variance if variance > 0 else torch.zeros_like(variance)
    return scale * centred + depth.mean()
