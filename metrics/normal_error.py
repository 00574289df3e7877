"""Whether the surfaces of generated images face where those do that they were drawn from."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.datamodules.pairs import ConditionKind, normal_map
from tenshot.metrics.base import Report
from tenshot.metrics.predictor_metric import TRUE_IMAGES, PredictorMetric, beside_true_images

__all__ = ["NormalError"]


class NormalError(PredictorMetric):
    """Mean angle in degrees between the normals that a network finds in samples and those that they were drawn from.

    It is the mean over all pixels of all images that have a normal: (0, 0, 0) is none.

    Args:
        predictor: See :class:`PredictorMetric`; the first three channels of what it gives are the normal.
        kind: What the conditions are.
    """

    needs = ("normals", "predictor")
    more_is_better = (False, None)
    wanted, outputs = "an estimator of normals gives (N, 3, H, W)", 3
    angles: Tensor
    real_angles: Tensor
    images: Tensor
    real_images: Tensor

    def __init__(self, predictor: str | nn.Module, kind: ConditionKind | None = None) -> None:
        super().__init__(predictor, kind or ConditionKind("normals"))
        for which in ("", "real_"):
            self.add_sum(f"{which}angles", torch.zeros(2, dtype=torch.float64))  # their sum, and how many
            self.add_sum(f"{which}images", torch.tensor(0))

    def update(self, images: Tensor, condition_image: Tensor, real: bool = False) -> None:
        """Add images.

        Args:
            images: (N, 3, H, W), float in [-1, 1] or uint8.
            condition_image: The normals they were drawn from, uint8 (N, 3, S, S).
            real: Whether they are the true images of these normals, not generated.
        """
        which = "real_" if real else ""
        for found, maps in self.found(images, condition_image) if len(images) else ():
            normals, known = normal_map(maps)
            guess = F.normalize(found[:, :3].cpu().double(), dim=1)
            normals = F.normalize(normals.cpu().double(), dim=1)
            # of the chord, which unlike the cosine tells small angles too
            angle = 2 * torch.asin((torch.linalg.vector_norm(guess - normals, dim=1) / 2).clamp(max=1))
            angle = angle[known.cpu()].rad2deg()
            more = torch.stack([angle.sum(), torch.tensor(float(len(angle)), dtype=torch.float64)])
            setattr(self, f"{which}angles", getattr(self, f"{which}angles") + more)
        setattr(self, f"{which}images", getattr(self, f"{which}images") + len(images))

    def names(self) -> tuple[str, ...]:
        """The mean, followed by that of the true images."""
        return beside_true_images(("normal_degrees",))

    def evaluate(self) -> Report:
        """Both; NaN where no pixel has a normal."""
        settings = {"n_generated": int(self.images), "n_real": int(self.real_images)} | self.settings()
        values: dict[str, float] = {}
        for angles, name in ((self.angles, ""), (self.real_angles, TRUE_IMAGES)):
            total, count = angles.tolist()
            values[f"normal_degrees{name}"] = total / count if count else math.nan
        why = {"why": "no pixel has a normal"} if any(map(math.isnan, values.values())) else {}
        return Report({name: values[name] for name in self.names()}, settings, why)
