"""LPIPS as an embedding: the distance of two images is the squared distance of two rows of numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models

from tenshot.errors import InputError, did_you_mean
from tenshot.models.features.embedding import EmbeddingNetwork, Rows, unit_rows
from tenshot.models.features.network import weights_hash
from tenshot.models.features.resize import resize_like_pillow
from tenshot.models.pretrained import Trunk, fill, read_state_dict, sha256, weight_file

__all__ = ["LPIPSNetwork"]

SEED = 0
"""Of the random weights: one network, so that its distances can be compared."""


@dataclass(frozen=True)
class Classifier:
    """A classifier of torchvision, and which of its activations are compared.

    Args:
        build: Its constructor.
        weights: Name of its weights for :func:`weight_file`.
        taps: Numbers of the layers, in ``features``, after which activations are taken: always ReLUs.
        min_size: Least side of an image, in pixels, that leaves something at the last tap.
    """

    build: Callable[[], nn.Module]
    weights: Trunk
    taps: tuple[int, ...]
    min_size: int


TRUNKS: dict[str, Classifier] = {
    "vgg": Classifier(torchvision_models.vgg16, "vgg16", (3, 8, 15, 22, 29), min_size=16),
    "alex": Classifier(torchvision_models.alexnet, "alexnet", (1, 4, 7, 9, 11), min_size=31),
    "squeeze": Classifier(torchvision_models.squeezenet1_1, "squeezenet", (1, 4, 7, 9, 10, 11, 12), min_size=17),
}


class LPIPSNetwork(EmbeddingNetwork):
    """The network of the ``lpips`` package, version 0.1 (Zhang et al. 2018, arXiv 1801.03924).

    The distance is d(x, y) = sum_l mean_hw sum_c w_lc (φ_lchw(x) - φ_lchw(y))², where φ are the activations at tap l,
    of length 1 over the channels at each position, and w the trained weights of the heads. So it is ``|u(x) - u(y)|²``
    of u = sqrt(w / (H W)) φ, which ``embed`` gives: one pass for each image, whatever number of pairs there is.

    Args:
        trunk: "vgg" (all published few-shot numbers), "alex" or "squeeze".
        weights: The trunk's weights in torchvision's format; none for the cache or a download; "random" for random
            weights of a fixed seed and heads of ones, which need no file and whose distances are not LPIPS.
        resize: Side in pixels to which images are resized first, bilinear and antialiased, and rounded to 256 levels.

    Attributes:
        name: What its distances may be called: lpips or lpips_alex with the published weights, dist_<hash> with others,
            dist_random or dist_random_alex with random ones.
        sha256: Hashes of the weights of trunk and heads, or of their files.

    Raises:
        InputError: No such trunk; or its weights are missing, damaged or another network's.
    """

    def __init__(
        self, trunk: Literal["vgg", "alex", "squeeze"] = "vgg", weights: str | None = None, resize: int | None = None
    ) -> None:
        super().__init__()
        if trunk not in TRUNKS:
            raise InputError(f"no LPIPS trunk {trunk!r}{did_you_mean(trunk, TRUNKS)}: choose {', '.join(TRUNKS)}")
        self.trunk, self.resize = trunk, resize
        classifier, heads_file = TRUNKS[trunk], _heads_file(trunk)
        with torch.device("meta"):  # its initialisation would take seconds, and the global generator
            features = classifier.build().features
        assert isinstance(features, nn.Sequential)
        layers = features[: classifier.taps[-1] + 1].to_empty(device="cpu")
        heads = _read_heads(heads_file)
        if weights == "random":
            _draw(layers)
            heads = [torch.ones_like(head) for head in heads]
            self.name, self.sha256 = "dist_random", {"trunk": weights_hash(layers) or ""}
        else:
            file = weight_file(classifier.weights, weights)
            state = read_state_dict(file.path)
            keys = {name: f"features.{name}" for name in layers.state_dict()}
            fill(layers, {name: state[key] for name, key in keys.items() if key in state}, str(file.path))
            self.name = "lpips" if file.published else f"dist_{file.sha256[:8]}"
            self.sha256 = {"trunk": file.sha256, "heads": sha256(heads_file)}
        if trunk != "vgg":
            self.name += f"_{trunk}"
        self.layers = layers.to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        for number, head in enumerate(heads):
            kept = head.nonzero().flatten()  # channels that count for nothing make the rows longer, not better
            self.register_buffer(f"kept{number}", kept if len(kept) < len(head) else None)
            self.register_buffer(f"root{number}", head[kept].sqrt())

    @classmethod
    def random(cls, trunk: Literal["vgg", "alex", "squeeze"] = "vgg", resize: int | None = None) -> "LPIPSNetwork":
        """Random weights, the same ones always: for machines without the trained ones. Its distances are not LPIPS."""
        return cls(trunk, weights="random", resize=resize)

    def check_size(self, height: int, width: int) -> None:
        """Raise an error where images of this size, once resized, leave nothing at the last tap.

        Raises:
            InputError: They are too small for the trunk.
        """
        height, width = (height, width) if self.resize is None else (self.resize, self.resize)
        if min(height, width) < TRUNKS[self.trunk].min_size:
            raise InputError(
                f"images of {height} x {width} are too small for the LPIPS trunk {self.trunk}, which needs "
                f"{TRUNKS[self.trunk].min_size}: set resize, or choose another trunk"
            )

    def embed(self, images: Tensor) -> Rows:
        """The rows whose squared distances are LPIPS.

        Args:
            images: (N, 3, H, W) float32 in [-1, 1].

        Returns:
            For each tap (N, D_l) float32; with the trunk vgg, and at 256 px, together eight million numbers an image.

        Raises:
            InputError: The images are too small for the trunk.
        """
        self.check_size(*images.shape[-2:])
        if self.resize is not None:
            images = resize_like_pillow(images, self.resize, "bilinear")
        x = ((images - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        taps = TRUNKS[self.trunk].taps
        rows: Rows = []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number in taps:
                rows.append(unit_rows(x, getattr(self, f"root{len(rows)}"), getattr(self, f"kept{len(rows)}")))
        return rows


def _draw(layers: nn.Module) -> None:
    """He's initialisation, without biases: torch's own lets the signal die, and the deeper taps would say nothing."""
    rng = np.random.RandomState(SEED)  # whose stream is the same on every machine and never changes
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            numbers = rng.randint(-(2**23), 2**23, tuple(layer.weight.shape)).astype(np.float32) / 2**23
            layer.weight.data = torch.from_numpy(numbers) * math.sqrt(6 / layer.weight[0].numel())
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def _heads_file(trunk: str) -> Path:
    """The heads that the ``lpips`` package brings along; found without importing it."""
    spec = find_spec("lpips")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "weights" / "v0.1" / f"{trunk}.pth"


def _read_heads(path: Path) -> list[Tensor]:
    """The weights (C_l,) of each tap.

    Raises:
        InputError: A negative weight: not the heads.
    """
    heads = [weight.flatten() for _, weight in sorted(read_state_dict(path).items())]
    if any(head.min() < 0 for head in heads):
        raise InputError(f"{path}: has negative weights, which no LPIPS heads have: install the package lpips again")
    return heads
