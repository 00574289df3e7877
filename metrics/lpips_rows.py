"""Where the rows come from that LPIPS compares: images are embedded in batches, once where there is room."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from tenshot.datamodules.pixels import from_pixels
from tenshot.models.features.embedding import EmbeddingNetwork, Rows

__all__ = ["EmbeddedImages", "FeatureRows", "RowSource", "held_bytes"]

HELD_BYTES = 2 * 2**30
"""Of host memory, for rows that will be asked for again: 1000 images at 64 px, 64 at 256 px (trunk vgg)."""

FREE_SHARE = 0.5
"""Of what is free on a GPU, for the same; the rest is for targets and for the trunk at work."""

BATCH_PIXELS = {"cpu": 2**17, "cuda": 2**20}
"""That go through the trunk at a time; on a CPU more of them leave its cache."""


def held_bytes(device: torch.device) -> int:
    """Room for rows that will be asked for again: on a GPU a share of what is free there, or PyTorch's to reuse."""
    if device.type != "cuda":
        return HELD_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(FREE_SHARE * (free + reusable))


class RowSource(ABC):
    """Numbered images whose squared distance is that of their rows."""

    batch_size: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def rows(self, indices: Tensor) -> Rows:
        """The rows of some images: (n,)  ->  for each tap (n, D_l)"""

    def batches(self, indices: Tensor) -> Sequence[Tensor]:
        """The numbers (n,) of some images, in parts whose rows can be asked for at a time."""
        return indices.split(self.batch_size) if len(indices) else ()


class FeatureRows(RowSource):
    """Rows that are there already: features of any network, compared as they are.

    Args:
        features: (N, d).
    """

    batch_size = 1024

    def __init__(self, features: Tensor) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, indices: Tensor) -> Rows:
        """(n,)  ->  one tap (n, d)."""
        return [self.features[indices]]


class EmbeddedImages(RowSource):
    """Images and what a network makes of them.

    Args:
        network: What embeds them, on the device it is to run on.
        pixels: (N, 3, H, W) uint8.
        held_bytes: Room for rows that will be asked for again; what does not fit goes through the trunk again.
    """

    def __init__(self, network: EmbeddingNetwork, pixels: Tensor, held_bytes: int = 0) -> None:
        self.network, self.pixels, self.held_bytes = network, pixels, held_bytes
        self.device = network.device
        height, width = (network.resize,) * 2 if network.resize else pixels.shape[-2:]
        most = BATCH_PIXELS.get(self.device.type, BATCH_PIXELS["cpu"])
        self.batch_size = max(4, min(most // (height * width), 256))
        self._held: dict[int, Rows] = {}

    def __len__(self) -> int:
        return len(self.pixels)

    def rows(self, indices: Tensor) -> Rows:
        """(n,)  ->  for each tap (n, D_l), float32."""
        wanted = indices.tolist()
        missing = [index for index in wanted if index not in self._held]
        known = self._held
        if missing:
            fresh = self.network.embed(from_pixels(self.pixels[missing].to(self.device)))
            known = self._held | {index: [tap[n] for tap in fresh] for n, index in enumerate(missing)}
            if len(known) * sum(tap[0].nbytes for tap in fresh) <= self.held_bytes:
                self._held = known
            if len(missing) == len(wanted):
                return fresh
        return [torch.stack(taps) for taps in zip(*(known[index] for index in wanted), strict=True)]
