"""Feature networks by name, each loaded once."""

from collections.abc import Callable
from typing import Literal, get_args
from weakref import WeakValueDictionary

from tenshot.errors import InputError, did_you_mean
from tenshot.models.features.clip import CLIPFeatures
from tenshot.models.features.dinov2 import DINOv2Features
from tenshot.models.features.efficientnet_lite0 import EfficientNetLite0Features
from tenshot.models.features.inception import InceptionFeatures, PytorchFidFeatures
from tenshot.models.features.network import FeatureNetwork
from tenshot.models.features.random import RandomFeatures
from tenshot.models.features.vgg16 import VGG16Features

__all__ = ["FeatureName", "check_feature_name", "feature_network"]

FeatureName = Literal["inception", "inception_pytorch_fid", "vgg16", "dinov2", "clip", "efficientnet_lite0", "random"]

OF_FILES: dict[str, Callable[[str | None], FeatureNetwork]] = {
    "inception": InceptionFeatures, "inception_pytorch_fid": PytorchFidFeatures, "vgg16": VGG16Features,
    "dinov2": DINOv2Features, "clip": CLIPFeatures,
}  # fmt: skip
THERE: dict[str, Callable[[], FeatureNetwork]] = {
    "efficientnet_lite0": EfficientNetLite0Features, "random": RandomFeatures
}  # fmt: skip
"""Which take no weights: they come with a package, or are made."""

_LOADED: WeakValueDictionary[tuple[str, str | None], FeatureNetwork] = WeakValueDictionary()


def check_feature_name(name: str, weights: str | None = None) -> None:
    """Raise an error that ``feature_network`` would raise, without looking for files.

    Raises:
        InputError: There is no such network, or it takes no weights.
    """
    known = get_args(FeatureName)
    if name not in known:
        raise InputError(f"no feature network {name!r}{did_you_mean(name, known)}: choose {', '.join(known)}")
    if name in THERE and weights is not None:
        raise InputError(f"features {name} takes no weights, but got {weights}: choose inception or vgg16, or none")


def feature_network(name: FeatureName, weights: str | None = None) -> FeatureNetwork:
    """The network of that name; all metrics that ask for the same one share it, as long as one of them is there.

    Args:
        name: ``inception``; ``inception_pytorch_fid``, with that package's resizing; ``vgg16``; ``dinov2`` and
            ``clip``, whose files are given; ``efficientnet_lite0``, whose file comes with a package; or ``random``,
            which needs none.
        weights: Weight file; none for the public one, see :func:`tenshot.models.pretrained.weight_file`.

    Raises:
        InputError: There is no such network; or its weights are not there, torn, or another network's.
    """
    check_feature_name(name, weights)
    network = _LOADED.get((name, weights))
    if network is None:
        network = THERE[name]() if name in THERE else OF_FILES[name](weights)
        _LOADED[name, weights] = network
    return network
