"""What the metrics share that look at samples with a network trained on pairs: a segmenter, an estimator of depth."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.checkpoints import PREDICTOR, read
from tenshot.datamodules.pairs import ConditionKind
from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import InputError
from tenshot.metrics.base import ImageMetric
from tenshot.metrics.pixels import checked_pixels
from tenshot.models import UNet
from tenshot.models.features import weights_hash
from tenshot.models.float32 import float32_inference

__all__ = ["TRUE_IMAGES", "PredictorMetric", "beside_true_images"]

TRUE_IMAGES = "_true_images"
"""What is added to the names of values that are of the true images of the same conditions."""

PIXELS = 2**18
"""That go through the network at a time: four images of 256 px."""


class PredictorMetric(ImageMetric):
    """A metric of what a network finds in generated images, against what they were drawn from.

    The same is measured of the true images that belong to these conditions: no sample can be expected to do better than
    they, for what they lack is the network's mistake. Conditions are brought to the size of the images by the nearest
    pixel.

    Args:
        predictor: A run, checkpoint or converted file of ``DensePredictor``; or any module that makes of float32 images
            (N, 3, H, W) in [-1, 1] what that method's network does: (N, C, H, W), the logits of C classes, a depth, or
            a vector in the direction of the normal.
        kind: What the conditions show.
    """

    wanted: ClassVar[str]
    """What the network must give, in words."""
    outputs: ClassVar[int | None] = None
    """Channels of it; None: the number of classes."""

    def __init__(self, predictor: str | nn.Module, kind: ConditionKind) -> None:
        super().__init__()
        self.kind, self._asked = kind, predictor
        self._network: list[nn.Module] = []  # in a list, so that it stays out of state dicts and optimisers

    @property
    def network(self) -> nn.Module:
        """The network, loaded when first asked for.

        Raises:
            InputError: It cannot be read, or finds something else than the conditions show.
        """
        if not self._network:
            self._network.append(self._asked if isinstance(self._asked, nn.Module) else self._read(self._asked))
        return self._network[0].eval()

    def _read(self, path: str) -> UNet:
        trained = read(path, PREDICTOR)
        found, kind, method = trained.stage, self.kind, "tenshot fit --model DensePredictor on such pairs"
        if found.get("condition") != kind.name:
            raise InputError(
                f"{trained.path}: finds {found.get('condition')} in images, the conditions are {kind.name}: give a run "
                f"of {method} with --evaluate.predictor"
            )
        if kind.name == "mask" and found.get("classes") != kind.classes:
            raise InputError(
                f"{trained.path}: a segmenter of other classes ({found.get('classes')}) than the masks have "
                f"({kind.classes}): give a run of {method} with --evaluate.predictor"
            )
        return trained.fill("predictor", UNet(trained.config))

    def prepare(self) -> None:
        """Load the network.

        Raises:
            InputError: It cannot be read, or finds something else than the conditions show.
        """
        assert self.network is not None

    def release(self) -> None:
        """Give back the accelerator's memory."""
        for network in self._network:
            network.cpu()

    def found(self, images: Tensor, condition: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """What the network finds in images, and what it should: a few images at a time.

        Args:
            images: (N, 3, H, W), float in [-1, 1] or uint8.
            condition: The part of the conditions that it looks at, uint8 (N, C', S, S).

        Yields:
            float32 (n, C, H, W), and the condition at that size, uint8 (n, C', H, W)

        Raises:
            InputError: The network is of another size, or gives something else.
        """
        pixels, network = checked_pixels(images), self.network
        if isinstance(network, UNet) and pixels.shape[-1] != network.config.image_size:
            raise InputError(
                f"images of {pixels.shape[-1]} px for a --evaluate.predictor of {network.config.image_size} px: give "
                "one that was trained at their size"
            )
        network.to(pixels.device)
        some = max(1, PIXELS // (pixels.shape[-1] * pixels.shape[-2]))
        condition = F.interpolate(condition.to(pixels.device), pixels.shape[-2:], mode="nearest-exact")
        for few, truth in zip(pixels.split(some), condition.split(some), strict=True):
            x = from_pixels(few)
            with float32_inference(pixels.device):
                found = network(x, x.new_zeros(len(x))) if isinstance(network, UNet) else network(x)
            if found.dim() != 4 or found.shape[-2:] != x.shape[-2:] or found.shape[1] < (self.outputs or 2):
                raise InputError(f"the predictor gives {tuple(found.shape)} for images {tuple(x.shape)}: {self.wanted}")
            yield found.float(), truth

    def settings(self) -> dict[str, Any]:
        """What every report says of the network."""
        name = type(self._asked).__name__ if isinstance(self._asked, nn.Module) else "DensePredictor"
        return {"predictor": name, "weights_sha256": weights_hash(self.network)}


def beside_true_images(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of values, each followed by that of the true images."""
    return tuple(name for value in names for name in (value, f"{value}{TRUE_IMAGES}"))
