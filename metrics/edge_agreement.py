"""Whether generated images have their edges where the sketches have lines that they were drawn from."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.datamodules.pairs import ConditionKind, canny_edges, require_edge_detector
from tenshot.metrics.base import ImageMetric, Report
from tenshot.metrics.pixels import checked_pixels
from tenshot.metrics.predictor_metric import TRUE_IMAGES, beside_true_images

__all__ = ["EdgeAgreement"]

TOLERANCE = 0.0075
"""Of the diagonal: the distance up to which the Berkeley benchmark matches edges (Martin et al., 2004)."""


class EdgeAgreement(ImageMetric):
    """Precision, recall and F1 of the edges of samples against the lines of their sketches.

    Edges are those that Canny's detector finds in the sample at the size of the sketch, as sketches are made from
    photos. ``edge_precision``: share of their pixels that lie within the tolerance of a line; ``edge_recall``: share of
    the pixels of lines that lie within it of an edge; ``edge_f1``: their harmonic mean. Pixels are counted over all
    images. Unlike the Berkeley benchmark a pixel may match several. Where sketches are no edges of that detector
    (drawn, or of HED), even true images are far from 1: samples are to be read against their values.

    Args:
        kind: What the sketches are: how much images are blurred before edges are looked for.
        tolerance: Distance in pixels of the sketch; None: 0.0075 of the diagonal, but at least one.
    """

    needs = ("sketch", "edge_detector")
    more_is_better = (True, None, True, None, True, None)
    counts: Tensor
    real_counts: Tensor
    images: Tensor
    real_images: Tensor

    def __init__(self, kind: ConditionKind | None = None, tolerance: float | None = None) -> None:
        super().__init__()
        self.kind, self.tolerance = kind or ConditionKind("sketch"), tolerance
        for which in ("", "real_"):
            self.add_sum(f"{which}counts", torch.zeros(4, dtype=torch.int64))  # near edges, edges, near lines, lines
            self.add_sum(f"{which}images", torch.tensor(0))

    def prepare(self) -> None:
        """Look for the edge detector.

        Raises:
            InputError: scikit-image is not installed.
        """
        require_edge_detector()

    def update(self, images: Tensor, condition_image: Tensor, real: bool = False) -> None:
        """Add images.

        Args:
            images: (N, 3, H, W), float in [-1, 1] or uint8.
            condition_image: The sketches they were drawn from, as distances to their lines, uint8 (N, 1, S, S).
            real: Whether they are the true images of these sketches, not generated.
        """
        pixels, lines, which = checked_pixels(images).cpu(), (condition_image[:, 0] == 0).cpu(), "real_" if real else ""
        if len(pixels) and pixels.shape[-1] != lines.shape[-1]:
            enlarged = F.interpolate(pixels.float(), lines.shape[-2:], mode="bicubic", antialias=True)
            pixels = enlarged.round().clamp(0, 255).to(torch.uint8)
        tolerance = self._tolerance(lines.shape[-1]) if len(lines) else 0.0
        for image, drawn in zip(pixels, lines, strict=True):
            edges = canny_edges(image, self.kind.edge_sigma)
            counts = [*_near(edges, drawn, tolerance), *_near(drawn, edges, tolerance)]
            setattr(self, f"{which}counts", getattr(self, f"{which}counts") + torch.tensor(counts))
        setattr(self, f"{which}images", getattr(self, f"{which}images") + len(pixels))

    def _tolerance(self, size: int) -> float:
        return max(1.0, TOLERANCE * 2**0.5 * size) if self.tolerance is None else self.tolerance

    def names(self) -> tuple[str, ...]:
        """F1, precision and recall, each followed by that of the true images."""
        return beside_true_images(("edge_f1", "edge_precision", "edge_recall"))

    def evaluate(self) -> Report:
        """All of it; precision is NaN without an edge, recall without a line, F1 without either."""
        settings: dict[str, Any] = {"n_generated": int(self.images), "n_real": int(self.real_images)}
        settings |= {"edge_sigma": self.kind.edge_sigma, "tolerance": self.tolerance or f"{TOLERANCE} of the diagonal"}
        values: dict[str, float] = {}
        for counts, name in ((self.counts, ""), (self.real_counts, TRUE_IMAGES)):
            near_edges, edges, near_lines, lines = counts.tolist()
            precision, recall = near_edges / edges if edges else math.nan, near_lines / lines if lines else math.nan
            both = (precision if edges else 0.0) + (recall if lines else 0.0)
            f1 = 2 * precision * recall / both if both and edges and lines else 0.0 if edges or lines else math.nan
            values |= {f"edge_f1{name}": f1, f"edge_precision{name}": precision, f"edge_recall{name}": recall}
        why = {"why": "there are no edges or no lines"} if any(map(math.isnan, values.values())) else {}
        return Report({name: values[name] for name in self.names()}, settings, why)


def _near(pixels: Tensor, others: Tensor, tolerance: float) -> tuple[int, int]:
    """How many pixels lie within that distance of one of the others, and how many there are: bool (S, S) each."""
    from scipy.ndimage import distance_transform_edt  # comes with scikit-image

    count = int(pixels.sum())
    if not count or not others.any():
        return 0, count
    distance = distance_transform_edt(np.logical_not(others.numpy()))
    return int((distance[pixels.numpy()] <= tolerance).sum()), count
