"""Two layers in the place of Inception's, under their names."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from tenshot.models.features import InceptionFeatures
from tenshot.models.features.network import FeatureNetwork

__all__ = ["TinyInception"]


class TinyInception(InceptionFeatures):
    """A map of 9 channels, of which sFID takes 7, and its mean; random weights.

    Args:
        published: Whether it passes for the published network.
    """

    def __init__(self, published: bool = False) -> None:
        FeatureNetwork.__init__(self, "inception" if published else "inception_random", "0" * 64, published, "none")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            map_of_parts = nn.Conv2d(3, 9, 4, stride=4)
        self.layers = nn.Sequential(OrderedDict(Mixed_6d=map_of_parts, AvgPool=nn.AdaptiveAvgPool2d(1)))
        self.freeze()

    def prepared(self, grey: Tensor) -> Tensor:
        """(N, 3, H, W) in 0 ... 255  ->  the same, of about unit size."""
        return (grey - 128) / 128
