"""A feature network that needs no download: fixed random filters. For tests and for machines without weights."""

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.models.features.network import FeatureNetwork, weights_hash

__all__ = ["RandomFeatures"]

CHANNELS = (3, 32, 48, 96, 128)
CELLS = (1, 2, 1, 1)
"""Side of the grid whose cells each layer's responses are averaged over; the second layer tells where things are."""
COLOUR_CELLS = 4
GAIN = 1.5
LARGEST = 64


class RandomFeatures(FeatureNetwork):
    """Random convolutions of four layers, each at half the resolution of the last, and mean colours: 496 features.

    The kernels have no mean, so that the layers see edges and not brightness, which would drown all else; the colours
    of a coarse grid are features of their own. 18 MFLOP an image of 32 px. The weights are made of whole numbers from
    NumPy's frozen generator: the same on every machine and with every version, so that results can be compared, with
    one another and with nothing else.

    Args:
        seed: Of the weights. Results are named ``random`` for seed 0, else ``random<seed>``.
    """

    def __init__(self, seed: int = 0) -> None:
        resize = f"none up to {LARGEST}, area average to {LARGEST} above"
        super().__init__("random" if seed == 0 else f"random{seed}", "", published=False, resize=resize)
        rng = np.random.RandomState(seed)  # whose stream never changes
        self.layers = nn.ModuleList()
        for fan_in, fan_out in pairwise(CHANNELS):
            layer = nn.utils.skip_init(nn.Conv2d, fan_in, fan_out, 3, padding=1)
            drawn = rng.randint(-(2**23), 2**23, (fan_out, fan_in, 3, 3))
            centred = 9 * drawn - drawn.sum(axis=(2, 3), keepdims=True)  # whole numbers: no rounding
            _set(layer.weight, centred / (9 * 2**23) * GAIN * (6 / (9 * fan_in)) ** 0.5)
            _set(layer.bias, rng.randint(-(2**23), 2**23, fan_out) / 2**25)
            self.layers.append(layer)
        self.weights_sha256 = weights_hash(self) or ""
        self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1]  ->  (N, 496)."""
        x = x.float()
        if max(x.shape[2:]) > LARGEST:
            x = F.adaptive_avg_pool2d(x, LARGEST)
        rows = [F.adaptive_avg_pool2d(x, COLOUR_CELLS).flatten(1)]
        for number, (layer, cells) in enumerate(zip(self.layers, CELLS, strict=True)):
            x = F.relu(layer(F.avg_pool2d(x, 2, ceil_mode=True) if number else x))
            rows.append(F.adaptive_avg_pool2d(x, cells).flatten(1))
        return torch.cat(rows, dim=1)


def _set(parameter: Tensor, values: np.ndarray) -> None:
    parameter.data = torch.from_numpy(values.astype(np.float32))
