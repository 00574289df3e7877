"""Vendi score (arXiv 2210.02410): how many different images there are among the samples, in effect."""

import torch
from torch import Tensor, nn

from tenshot.metrics.base import Report
from tenshot.metrics.feature_metric import FeatureMetric
from tenshot.models.features import FeatureName

__all__ = ["VendiScore"]


class VendiScore(FeatureMetric):
    """The exponential of the entropy of the eigenvalues of K/n, with the cosine of features as the kernel K (Friedman
    and Dieng 2023, order 1), in float64. n equal images: 1; n of orthogonal features: n.

    ``vendi_<features>``. It knows no real images, and says nothing of quality. It grows with the number of samples, and
    features that are never negative have cosines near 1, so that only results of equal numbers and features can be
    compared.

    Args:
        features: ``inception``, ``vgg16``, ``random``, or any module that returns rows (N, d).
        weights: Weight file of a named network; none for the public one.
    """

    needs = ()
    more_is_better = (True,)

    def __init__(self, features: FeatureName | nn.Module = "inception", weights: str | None = None) -> None:
        super().__init__(features, weights)

    def names(self) -> tuple[str, ...]:
        """The score."""
        return (f"vendi_{self.features.name}",)

    def evaluate(self) -> Report:
        """The score; NaN where there are no samples, or one has no feature but zeros."""
        (name,), settings = self.names(), self.counts() | self.features.settings() | {"kernel": "cosine", "order": 1}
        rows = self.rows("generated")
        if rows is None:
            return Report({name: float("nan")}, settings, {"why": "there are no samples"})
        x = rows.to(self.worker, torch.float64)
        lengths = x.norm(dim=1, keepdim=True)
        if (lengths == 0).any():
            why = f"{int((lengths == 0).sum())} samples have features that are all 0, which have no cosine"
            return Report({name: float("nan")}, settings, {"why": why})
        return Report({name: _effective_number(x / lengths)}, settings)


def _effective_number(x: Tensor) -> float:
    """exp of the entropy of the eigenvalues of x xᵀ / n, but for zeros those of xᵀ x / n; x of unit rows (n, d)."""
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    eigenvalues = torch.linalg.eigvalsh(gram / len(x)).clamp(min=0)
    return torch.special.entr(eigenvalues).sum().exp().item()
