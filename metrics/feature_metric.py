"""Metrics of feature rows, whichever network makes them."""

from itertools import chain
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import InputError
from tenshot.metrics.base import ImageMetric, Need, Real
from tenshot.metrics.pixels import checked_pixels
from tenshot.models.features import FeatureName, FeatureNetwork, check_feature_name, feature_network, weights_hash
from tenshot.models.float32 import float32_inference
from tenshot.models.pretrained import Trunk

__all__ = ["FeatureMetric", "Features"]

_LATEST: WeakKeyDictionary[nn.Module, tuple[Tensor, dict[str, Tensor]]] = WeakKeyDictionary()
"""The last batch that each frozen network saw, and its outputs: the next metric with that network asks for the same."""


OF_PUBLIC_FILES: dict[str, Trunk] = {"inception": "inception", "inception_pytorch_fid": "inception", "vgg16": "vgg16"}


class Features:
    """Feature rows of images. Not a module, so that the network stays out of state dicts, optimisers and copies.

    Args:
        features: Name of a network of ours, or any module that takes float32 images in [-1, 1] and returns rows.
        weights: Weight file of a named network; none for the public one.
    """

    def __init__(self, features: FeatureName | nn.Module, weights: str | None) -> None:
        if isinstance(features, str):
            check_feature_name(features, weights)
        elif weights is not None:
            raise InputError(f"weights {weights} are for features of ours by name: load those of a module yourself")
        self._network = None if isinstance(features, str) else features
        self._asked, self._weights = features, weights

    def __deepcopy__(self, memo: dict[int, Any]) -> "Features":
        return self

    @property
    def network(self) -> nn.Module:
        """The network, loaded when first asked for."""
        if self._network is None:
            assert isinstance(self._asked, str)
            self._network = feature_network(self._asked, self._weights)
        return self._network

    def __call__(self, images: Tensor, output: str = "features") -> Tensor:
        """Feature rows.

        Args:
            images: (N, 3, H, W) float in [-1, 1] or uint8; for a module of the user also (N, d) features, which it
                gets as they are.
            output: Which of the outputs of a network of ours.

        Returns:
            (N, d), float32, or float64 where the module returns that

        Raises:
            InputError: Not such images, or no finite rows came out.
        """
        ours = isinstance(self.network, FeatureNetwork)
        if images.dim() == 2 and not ours:
            return self.rows(images)
        pixels = checked_pixels(images)
        if not ours:
            return self.rows(from_pixels(pixels))
        latest, outputs = _LATEST.get(self.network, (None, {}))
        if latest is None or latest.device != pixels.device or not torch.equal(latest, pixels):
            outputs = self.outputs(from_pixels(pixels))
            _LATEST[self.network] = (pixels.clone(), outputs)
        return outputs[output]

    def rows(self, x: Tensor) -> Tensor:
        """Feature rows of what the network takes, as it is: nothing is rounded.

        Args:
            x: (N, 3, H, W) float in [-1, 1]; for a module of the user also (N, d) features.

        Returns:
            (N, d), float32, or float64 where the module returns that

        Raises:
            InputError: No finite rows came out.
        """
        return self.outputs(x)["features"]

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """All rows that the network gives of ``x`` in one pass, by name, as :meth:`rows` gives them."""
        network = self.network
        if any(weight.device != x.device for weight in chain(network.parameters(), network.buffers())):
            network.to(x.device)
        network.eval()
        with float32_inference(x.device):
            outputs = network.outputs(x) if isinstance(network, FeatureNetwork) else {"features": network(x)}
            return {name: self._checked(out, len(x)) for name, out in outputs.items()}

    def _checked(self, out: Any, count: int) -> Tensor:
        """What a network returned as rows (N, d), float32 or float64."""
        if not isinstance(out, Tensor) or out.dim() < 2 or len(out) != count:
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f"features {self.name}: expected rows ({count}, d), but got {got}")
        rows = out.flatten(1)
        rows = rows if rows.dtype == torch.float64 else rows.float()
        if not rows.isfinite().all():
            raise InputError(f"features {self.name}: there is a NaN or an infinity among them")
        return rows

    def release(self) -> None:
        """Move a network of ours out of the accelerator's memory."""
        if isinstance(self._network, FeatureNetwork):
            _LATEST.pop(self._network, None)
            self._network.cpu()

    @property
    def public_weights(self) -> Trunk | None:
        """The public file that the network is read from; none where it needs none, or another one is given."""
        return OF_PUBLIC_FILES.get(self._asked) if isinstance(self._asked, str) and self._weights is None else None

    @property
    def name(self) -> str:
        """What results are named by; ``custom`` for a module without a name."""
        name = getattr(self.network, "name", None)
        return name if isinstance(name, str) else "custom"

    def is_published(self, kind: type[FeatureNetwork]) -> bool:
        """Whether results may carry the name of the metric that was published with the network ``kind``."""
        return isinstance(self.network, kind) and self.network.published

    def settings(self) -> dict[str, Any]:
        """What a report says of it."""
        network = self.network
        if isinstance(network, FeatureNetwork):
            return {"features": self.name, "weights_sha256": network.weights_sha256, "resize": network.resize}
        return {"features": self.name, "weights_sha256": weights_hash(network), "resize": None}


class FeatureMetric(ImageMetric):
    """A metric of the feature rows of generated images and, where ``compares``, of real ones.

    Args:
        features: Name of a feature network, or any module that takes float32 images in [-1, 1] and returns rows
            (N, d), which is put into evaluation mode; ``nn.Identity()`` to give features instead of images.
        weights: Weight file of a named network; none for the public one, from torch's cache or downloaded.
    """

    needs: ClassVar[tuple[Need, ...]] = ("reference",)
    mirrors: ClassVar[bool] = False
    """Whether it keeps the rows of mirrored shots too, as ``real_mirrored``; then it takes images alone."""

    def __init__(self, features: FeatureName | nn.Module, weights: str | None = None) -> None:
        super().__init__()
        self.features = Features(features, weights)
        self.worker = torch.device("cpu")
        self.width: int | None = None
        for which in self.sets:
            self.add_rows(which)
        if self.mirrors:
            self.add_rows("real_mirrored")

    @property
    def sets(self) -> tuple[str, ...]:
        """States that hold rows: of generated images and, where it compares, of real ones."""
        real = ("real_shots", "real_reference") if self.compares_with_both else ("real",) if self.compares else ()
        return ("generated", *real)

    def prepare(self) -> None:
        """Load the network.

        Raises:
            InputError: Its weights are missing or cannot be read.
        """
        assert self.features.network is not None

    def release(self) -> None:
        """Give back the accelerator's memory; what was counted stays."""
        self.features.release()

    def update(self, images: Tensor, real: Real = False) -> None:
        """Add images.

        Args:
            images: (N, 3, H, W), float in [-1, 1] or uint8; or (N, d) features, for a module of the user.
            real: Whether they are real, not generated; which of the real ones, where the metric compares with both.

        Raises:
            InputError: Not such images.
        """
        if real and not self.compares:
            raise InputError(f"{type(self).__name__} looks at generated images alone: leave real out")
        which = (f"real_{real}" if self.compares_with_both else "real") if real else "generated"
        if which not in self.sets:
            raise InputError(f"{type(self).__name__} needs to know which real images: give real='shots' or 'reference'")
        if self.mirrors and images.dim() != 4:
            raise InputError(
                f"{type(self).__name__} mirrors shots: give it images (N, 3, H, W), not {tuple(images.shape)}"
            )
        if len(images):
            rows = self.rows_of(images)
            if self.width not in (None, rows.shape[1]):
                raise InputError(f"{rows.shape[1]} features, but earlier images had {self.width}: give equal ones")
            self.width = rows.shape[1]
            self.worker = rows.device if rows.device.type != "mps" else torch.device("cpu")  # which has no float64
            self.append(which, rows)
            if self.mirrors and which in ("real", "real_shots"):
                self.append("real_mirrored", self.rows_of(images.flip(-1)))

    def rows_of(self, images: Tensor) -> Tensor:
        """The rows that are kept of these images, (N, d)."""
        return self.features(images)

    def counts(self) -> dict[str, Any]:
        """Numbers of images, as settings of a report."""
        held = {which: self.rows(which) for which in self.sets}
        return {f"n_{which.removeprefix('real_')}": 0 if rows is None else len(rows) for which, rows in held.items()}
