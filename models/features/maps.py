"""Frozen networks that turn images into feature maps, for perceptual losses."""

from abc import abstractmethod
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from tenshot.errors import InputError, did_you_mean
from tenshot.models.features.efficientnet_lite0 import MEAN, STD, EfficientNetLite0
from tenshot.models.pretrained import fill, read_state_dict, weight_file

__all__ = ["EfficientNetLite0Maps", "FeatureMaps", "MapsName", "VGG19Maps", "feature_maps"]

MapsName = Literal["vgg19", "efficientnet_lite0"]

BLOCKS = 3
"""Of EfficientNet-Lite0, which end its stage at a quarter of the size."""


class FeatureMaps(nn.Module):
    """A frozen network: images (N, 3, H, W) in [-1, 1]  ->  (N, C, h, w), through which gradients go to the images.

    It computes in float32, also under autocast, for what is compared are small differences.

    Args:
        network: Of images that are normalised by ImageNet's mean and standard deviation.
        weights_sha256: Hash of its file of weights.
        multiple: What sides of images must be multiples of.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, weights_sha256: str, multiple: int) -> None:
        super().__init__()
        self.network, self.weights_sha256, self.multiple = network, weights_sha256, multiple
        self.register_buffer("mean", torch.tensor(MEAN, device="cpu").view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD, device="cpu").view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.train(False)

    @abstractmethod
    def maps(self, x: Tensor) -> Tensor:
        """Normalised images  ->  their feature maps."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1]  ->  (N, C, h, w) float32

        Raises:
            InputError: H or W is not a multiple of ``multiple``.
        """
        height, width = images.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise InputError(
                f"images of {width} x {height}: the perceptual loss takes sides that are multiples of {self.multiple}"
            )
        with torch.autocast(images.device.type, enabled=False):
            return self.maps(((images.float() + 1) / 2 - self.mean) / self.std)

    def train(self, mode: bool = True) -> "FeatureMaps":
        """Stays in evaluation mode."""
        return super().train(False)


class VGG19Maps(FeatureMaps):
    """torchvision's VGG19 up to conv2_2, before its ReLU: (N, 128, H / 2, W / 2), as in PITI's code.

    Args:
        weights: Weight file; none for the public one, see :func:`tenshot.models.pretrained.weight_file`.

    Raises:
        InputError: No such file, or weights of another network.
    """

    def __init__(self, weights: str | None = None) -> None:
        found = weight_file("vgg19", weights)
        state = read_state_dict(found.path)
        if "features.34.weight" not in state:  # the first convolutions of VGG16 have the same shapes
            raise InputError(f"{found.path}: not VGG19's weights, for features.34.weight is missing: give its file")
        with torch.device("meta"):
            network = nn.Sequential(
                _convolution(3, 64), nn.ReLU(), _convolution(64, 64), nn.ReLU(), nn.MaxPool2d(2),
                _convolution(64, 128), nn.ReLU(), _convolution(128, 128),
            )  # fmt: skip
        names = {f"features.{name}": name for name in network.state_dict()}
        first = {names[key]: value for key, value in state.items() if key in names}
        fill(network.to_empty(device="cpu"), first, str(found.path))
        super().__init__(network.to(memory_format=torch.channels_last), found.sha256, multiple=2)

    def maps(self, x: Tensor) -> Tensor:
        """(N, 3, H, W)  ->  (N, 128, H / 2, W / 2)"""
        return cast(Tensor, self.network(x.contiguous(memory_format=torch.channels_last)))


class EfficientNetLite0Maps(FeatureMaps):
    """EfficientNet-Lite0's stage at a quarter of the images' size, which no activation ends: (N, 24, H / 4, W / 4).

    Its weights come with a package.

    Raises:
        InputError: See :class:`EfficientNetLite0`.
    """

    def __init__(self) -> None:
        network = EfficientNetLite0()
        network.blocks = network.blocks[:BLOCKS]
        super().__init__(network, network.sha256, multiple=4)

    def maps(self, x: Tensor) -> Tensor:
        """(N, 3, H, W)  ->  (N, 24, H / 4, W / 4)"""
        return cast(EfficientNetLite0, self.network).taps(x)[1]


def feature_maps(name: MapsName, weights: str | None = None) -> FeatureMaps:
    """The network of that name.

    Args:
        name: ``vgg19``, which the published weight of the loss goes with, or ``efficientnet_lite0``, whose file comes
            with a package.
        weights: File of VGG19's; none for the public one.

    Raises:
        InputError: There is no such network; or its weights are not there, torn, or another network's.
    """
    if name == "vgg19":
        return VGG19Maps(weights)
    if name != "efficientnet_lite0":
        known = get_args(MapsName)
        raise InputError(f"no perceptual network {name!r}{did_you_mean(name, known)}: choose {' or '.join(known)}")
    if weights is not None:
        raise InputError(f"perceptual network {name} takes no weights, but got {weights}: choose vgg19, or none")
    return EfficientNetLite0Maps()


def _convolution(fan_in: int, fan_out: int) -> nn.Conv2d:
    return nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1)
