"""What the LPIPS metrics share: images kept as pixels, a network loaded late, and the work sharded over ranks."""

from typing import Any, ClassVar, Literal, get_args
from weakref import WeakValueDictionary

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tenshot.distributed.gathering import reduce_sum
from tenshot.errors import InputError, did_you_mean
from tenshot.metrics.base import ImageMetric, Need
from tenshot.metrics.feature_metric import Features
from tenshot.metrics.lpips_rows import EmbeddedImages, FeatureRows, RowSource
from tenshot.metrics.pixels import checked_pixels
from tenshot.models.features.efficientnet_lite0 import EfficientNetLite0Distance
from tenshot.models.features.embedding import EmbeddingNetwork
from tenshot.models.features.lpips import TRUNKS, LPIPSNetwork
from tenshot.models.pretrained import Trunk

__all__ = ["LPIPSMetric", "LPIPSName"]

LPIPSName = Literal["vgg", "alex", "squeeze", "efficientnet_lite0", "random"]

_LOADED: WeakValueDictionary[tuple[str, str | None, int | None], EmbeddingNetwork] = WeakValueDictionary()


class LPIPSFeatures:
    """The network of a metric of distances. Not a module, so that it stays out of state dicts, optimisers and copies.

    Metrics that ask for the same network share it.
    """

    def __init__(self, features: LPIPSName | EmbeddingNetwork, weights: str | None, resize: int | None) -> None:
        known = get_args(LPIPSName)
        if isinstance(features, str):
            if features not in known:
                raise InputError(f"no LPIPS features {features!r}{did_you_mean(features, known)}: {', '.join(known)}")
            if features in ("random", "efficientnet_lite0") and weights is not None:
                raise InputError(
                    f"features {features} takes no weights, but got {weights}: choose vgg, or leave them out"
                )
            if features == "efficientnet_lite0" and resize is not None:
                raise InputError(f"features {features} resizes by itself, but got {resize}: leave resize out")
        elif weights is not None or resize is not None:
            raise InputError("weights and resize are for LPIPS networks by name: give them to the network itself")
        self._asked, self._weights, self._resize = features, weights, resize

    def __deepcopy__(self, memo: dict[int, Any]) -> "LPIPSFeatures":
        return self

    @property
    def network(self) -> EmbeddingNetwork:
        """The network, loaded when first asked for."""
        if isinstance(self._asked, str):
            key = (self._asked, self._weights, self._resize)
            network = _LOADED.get(key)
            if network is None:
                network = _load(self._asked, self._weights, self._resize)
                _LOADED[key] = network
            self._asked = network
        return self._asked

    def release(self) -> None:
        """Move the network out of the accelerator's memory."""
        if isinstance(self._asked, EmbeddingNetwork):
            self._asked.cpu()

    def settings(self) -> dict[str, Any]:
        """What a report says of it."""
        network = self.network
        return {"features": self.name, "weights_sha256": network.sha256, "resize": network.resize}

    @property
    def public_weights(self) -> Trunk | None:
        """The public file that the network is read from; none where it needs none, or another one is given."""
        named = isinstance(self._asked, str) and self._weights is None
        return TRUNKS[str(self._asked)].weights if named and self._asked in TRUNKS else None

    @property
    def name(self) -> str:
        """What its distances are called."""
        return self.network.name


def _load(name: LPIPSName, weights: str | None, resize: int | None) -> EmbeddingNetwork:
    if name == "efficientnet_lite0":
        return EfficientNetLite0Distance()
    return LPIPSNetwork.random(resize=resize) if name == "random" else LPIPSNetwork(name, weights, resize)


class LPIPSMetric(ImageMetric):
    """A metric of distances between images, of which it keeps the pixels.

    Results have ``lpips`` in their name with the published weights of VGG16, ``lpips_alex`` and ``lpips_squeeze`` with
    the others', ``dist_efficientnet_lite0`` with that network, ``dist_random`` with random weights, and ``dist_…`` with
    anything else. Ranks share the work: each embeds every W-th image of all, and only distances and sums of rows
    travel.

    Args:
        features: ``vgg``, which all published few-shot numbers have, ``alex``, ``squeeze``, ``efficientnet_lite0``,
            trained too and there without a download, or ``random``; a network with other settings; or any module that
            returns rows (N, d) for float32 images in [-1, 1], whose squared Euclidean distance then takes the place of
            LPIPS (``nn.Identity()`` to give features instead of images).
        weights: Weight file of the trunk; none for the public one, from torch's cache or downloaded.
        resize: Side to which images are resized first, of LPIPS and ``random``; published numbers are of 256.
    """

    needs: ClassVar[tuple[Need, ...]] = ("shots",)

    def __init__(
        self, features: LPIPSName | nn.Module = "vgg", weights: str | None = None, resize: int | None = None
    ) -> None:
        super().__init__()
        self.features: LPIPSFeatures | Features
        if isinstance(features, str | EmbeddingNetwork):
            self.features = LPIPSFeatures(features, weights, resize)
        else:
            if resize is not None:
                raise InputError(f"resize {resize} is for LPIPS networks: a module of yours can resize what it gets")
            self.features = Features(features, weights)
        self.worker: torch.device | None = None
        self.shape: tuple[int, ...] | None = None
        for which in ("generated", "real") if self.compares else ("generated",):
            self.add_rows(which)

    def prepare(self) -> None:
        """Load the network.

        Raises:
            InputError: Its weights are missing or cannot be read.
        """
        assert self.features.network is not None

    def release(self) -> None:
        """Give back the accelerator's memory; the images stay."""
        self.features.release()

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.shape = None

    def reset_generated(self) -> None:
        """Forget the generated images; new ones must be as large as the real ones that are kept."""
        shape = self.shape
        super().reset_generated()
        self.shape = shape if self.compares and self.rows("real") is not None else None

    def update(self, images: Tensor, real: bool = False) -> None:
        """Add images.

        Args:
            images: (N, 3, H, W), float in [-1, 1] or uint8; or (N, d) features, for a module of the user.
            real: Whether they are the shots, not generated.

        Raises:
            InputError: Not such images, or of another size than earlier ones, or too small for the network.
        """
        if real and not self.compares:
            raise InputError(f"{type(self).__name__} looks at generated images alone: leave real out")
        if not len(images):
            return
        rows = checked_pixels(images) if isinstance(self.features, LPIPSFeatures) else self.features(images)
        shape = tuple(rows.shape[1:])
        if self.shape not in (None, shape):
            raise InputError(f"images of {shape}, but earlier ones were of {self.shape}: resize them to one size")
        if isinstance(self.features, LPIPSFeatures):
            self.features.network.check_size(*shape[1:])
        self.shape, self.worker = shape, images.device
        self.append("real" if real else "generated", rows)

    def source(self, which: str, held_bytes: int = 0) -> RowSource | None:
        """The images of a set on all ranks, in the order of one process; none if there are none."""
        rows, device = self.rows(which), self.workplace
        if rows is None:
            return None
        if isinstance(self.features, Features):
            return FeatureRows(rows.to(device))
        return EmbeddedImages(self.features.network.to(device), rows, held_bytes)

    @property
    def kind(self) -> str:
        """What the distances are called."""
        return self.features.name if isinstance(self.features, LPIPSFeatures) else f"dist_{self.features.name}"

    @property
    def workplace(self) -> torch.device:
        """Where the network runs: where the images came from."""
        return self.worker or torch.device(self.device)

    def share(self, indices: Tensor) -> Tensor:
        """Those of the images (n,) that this rank embeds; always the same ones."""
        if not self._is_synced:
            return indices
        return indices[indices % dist.get_world_size(self.process_group) == dist.get_rank(self.process_group)]

    def together(self, mine: Tensor) -> Tensor:
        """The sum over ranks; an empty tensor counts as zero."""
        return reduce_sum(mine, self.process_group) if self._is_synced else mine

    def settings(self) -> dict[str, Any]:
        """What every report says."""
        sets = ("generated", "real") if self.compares else ("generated",)
        counts = {f"n_{which}": len(rows) if (rows := self.rows(which)) is not None else 0 for which in sets}
        size = next((list(rows.shape[2:]) for which in sets if (rows := self.rows(which)) is not None), None)
        return counts | {"size": size or None} | self.features.settings()
