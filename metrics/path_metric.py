"""What the metrics of latent paths share: which latents to decode, and the distances along the images of a path."""

from abc import abstractmethod
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from tenshot.errors import InputError
from tenshot.metrics.base import ImageMetric, Need
from tenshot.metrics.feature_metric import Features
from tenshot.metrics.latent_paths import Space
from tenshot.metrics.lpips_metric import LPIPSFeatures, LPIPSName
from tenshot.metrics.lpips_rows import BATCH_PIXELS
from tenshot.models.features.embedding import EmbeddingNetwork, Rows, distances
from tenshot.models.features.lpips import LPIPSNetwork
from tenshot.models.float32 import float32_inference

__all__ = ["PathMetric"]

PUBLISHED_SIDE = 256
"""Larger images are averaged down to about this side, as NVIDIA's code does it."""

FAR = 16.0
"""Mean absolute value beyond which images are of another range: networks that diverge stay well below 255."""


class PathMetric(ImageMetric):
    """A metric of images along paths between latents; it keeps distances, not images.

    It says which latents to decode (``latents``); whoever has the generator hands over the images, one draw of noise
    for all of a path. They are taken as they are, neither rounded nor clamped, for rounding would hide small steps.

    Args:
        features: See :class:`tenshot.metrics.lpips_metric.LPIPSMetric`.
        weights: See there.
        resize: Side to which images are resized first, without rounding; none to average those beyond 256 down.
        space: Where the paths lie.
    """

    needs: ClassVar[tuple[Need, ...]] = ("latents",)
    images_per_path: ClassVar[int]
    """Images of a path, P."""

    def __init__(
        self,
        features: LPIPSName | nn.Module = "vgg",
        weights: str | None = None,
        resize: int | None = None,
        space: Space = "w",
    ) -> None:
        super().__init__()
        if space not in ("z", "w"):
            raise InputError(f"{type(self).__name__}: space is {space!r}: choose z or w")
        if isinstance(features, LPIPSNetwork) and features.resize is not None:
            raise InputError(f"{type(self).__name__}: the network rounds what it resizes: give resize here instead")
        self.features: LPIPSFeatures | Features
        if isinstance(features, str | EmbeddingNetwork):
            self.features = LPIPSFeatures(features, weights, resize=None)
        else:
            self.features = Features(features, weights)
        self.resize, self.space = resize, space
        self.add_rows("paths")
        self.add_rows("size")  # (1, 2): of an image, where a rank has seen one

    @abstractmethod
    def latents(self, first: Tensor, second: Tensor, position: Tensor) -> Tensor:
        """The latents to decode.

        Args:
            first: (N, D) one end of each path.
            second: (N, D) the other.
            position: (N,) uniform in [0, 1), where on the way to measure, for a metric that samples that.

        Returns:
            (N, P, D)
        """

    @abstractmethod
    def measure(self, rows: Rows) -> Tensor:
        """What is kept of paths: for each tap (N, P, D_l)  ->  (N, ...) float64"""

    def prepare(self) -> None:
        """Load the network.

        Raises:
            InputError: Its weights are missing or cannot be read.
        """
        assert self.features.network is not None

    def release(self) -> None:
        """Give back the accelerator's memory; what was counted stays."""
        self.features.release()

    def update(self, images: Tensor) -> None:
        """Add paths.

        Args:
            images: (N, P, 3, H, W) float in [-1, 1] or somewhat beyond; or (N, P, d) features, for a module of the
                user.

        Raises:
            InputError: Not such images, or too small for the network.
        """
        ours = isinstance(self.features, LPIPSFeatures)
        dims = (5,) if ours else (3, 5)
        if images.dim() not in dims or images.shape[1] != self.images_per_path or not images.is_floating_point():
            raise InputError(
                f"{type(self).__name__} takes float images (N, {self.images_per_path}, 3, H, W), but got "
                f"{images.dtype} {tuple(images.shape)}"
            )
        if not len(images):
            return
        if images.dim() == 5:
            _check_range(images)
            if self.rows("size") is None:
                self.append("size", torch.tensor([images.shape[-2:]]))
        for part in images.split(self._at_a_time(images)):
            with float32_inference(images.device):
                rows = self._rows(rearrange(part, "path point ... -> (path point) ..."))
                found = self.measure([rearrange(tap, "(path point) d -> path point d", path=len(part)) for tap in rows])
            self.append("paths", found)

    def _at_a_time(self, images: Tensor) -> int:
        """Paths that go through the network together."""
        own = self.features.network.resize if isinstance(self.features, LPIPSFeatures) else None
        side = own or self.resize or min(images.shape[-1], PUBLISHED_SIDE)
        return max(1, BATCH_PIXELS.get(images.device.type, BATCH_PIXELS["cpu"]) // (side**2 * self.images_per_path))

    def _rows(self, x: Tensor) -> Rows:
        """(M, 3, H, W) or (M, d)  ->  for each tap (M, D_l)"""
        if x.dim() == 4:
            factor = min(x.shape[-2:]) // PUBLISHED_SIDE
            if self.resize is not None:
                x = F.interpolate(x, size=(self.resize, self.resize), mode="bilinear", antialias=True)
            elif factor > 1:
                x = F.avg_pool2d(x, factor)
        if isinstance(self.features, Features):
            return [self.features.rows(x)]
        return self.features.network.to(x.device).embed(x.float())

    @property
    def kind(self) -> str:
        """What the distances are called."""
        return self.features.name if isinstance(self.features, LPIPSFeatures) else f"dist_{self.features.name}"

    def settings(self) -> dict[str, object]:
        """What every report says."""
        held, size = self.rows("paths"), self.rows("size")
        count = {"n_paths": 0 if held is None else len(held), "size": None if size is None else size[0].tolist()}
        return count | {"space": self.space} | self.features.settings() | {"resize": self.resize}


def step_distances(rows: Rows) -> Tensor:
    """From each image of a path to the next, by their difference: for each tap (N, P, D_l)  ->  (N, P - 1) float64"""
    steps = [
        distances([tap[:, i] for tap in rows], [tap[:, i + 1] for tap in rows]) for i in range(rows[0].shape[1] - 1)
    ]
    return torch.stack(steps, dim=1).cpu().double()


def _check_range(images: Tensor) -> None:
    mean = float(images.abs().mean())
    if not mean <= FAR:
        why = (
            "there is a NaN or an infinity: look at the generator"
            if mean != mean or mean == float("inf")
            else (f"their mean absolute value is {mean:.4g}: x / 127.5 - 1 scales those of 0 ... 255")
        )
        raise InputError(f"paths are of images in [-1, 1], but {why}")
