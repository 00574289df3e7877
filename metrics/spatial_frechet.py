"""sFID: the Fréchet distance of Inception's features with their places in the image."""

from typing import get_args

from torch import Tensor

from tenshot.errors import InputError
from tenshot.metrics.frechet import FrechetDistance
from tenshot.models.features import FeatureName, InceptionFeatures

__all__ = ["SpatialFrechetDistance"]


class SpatialFrechetDistance(FrechetDistance):
    """The Fréchet distance of 7 channels of a map of 17 x 17 inside Inception (Nash et al., arXiv 2103.03841).

    ``sfid`` with the published Inception: 2023 numbers an image, of the layer that guided-diffusion's evaluator takes,
    which sees how parts are arranged, as the pooled features of FID do not. ``sfd_<features>`` with other weights or
    resizing of that network. No other network has such a map.

    Args:
        features: ``inception``, ``inception_pytorch_fid``, or such a network that is loaded.
        weights: Weight file; none for the public one.

    Raises:
        InputError: Another network.
    """

    def __init__(self, features: FeatureName | InceptionFeatures = "inception", weights: str | None = None) -> None:
        others = [name for name in get_args(FeatureName) if not name.startswith("inception")]
        if features in others or not isinstance(features, str | InceptionFeatures):
            raise InputError(
                f"spatial_frechet (sFID) is of a layer of Inception, not of {features}: choose --evaluate.features "
                "published, or leave spatial_frechet out"
            )
        super().__init__(features, weights)

    def rows_of(self, images: Tensor) -> Tensor:
        """(N, 3, H, W)  ->  (N, 2023)."""
        return self.features(images, "spatial")

    def names(self) -> tuple[str, ...]:
        """The distance."""
        return ("sfid" if self.features.is_published(InceptionFeatures) else f"sfd_{self.features.name}",)
