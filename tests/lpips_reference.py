"""The ``lpips`` package as the judge of ours: the same random trunk in both, pair by pair."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import lpips
import torch
from lpips import pretrained_networks
from torch import Tensor, nn

from tenshot.metrics.lpips_metric import LPIPSMetric

BUILDERS = {"vgg": "vgg16", "alex": "alexnet", "squeeze": "squeezenet1_1"}


@cache
def reference(trunk: str) -> lpips.LPIPS:
    """The package's network with its own heads and a random trunk, the same one at every call."""
    build = getattr(pretrained_networks.tv, BUILDERS[trunk])
    with mock.patch.object(pretrained_networks.tv, BUILDERS[trunk], return_value=random_trunk(build)):
        return lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False).requires_grad_(False)


def random_trunk(build: Callable[[], nn.Module]) -> SimpleNamespace:
    """Layers with weights that keep what they are given apart; without the classifier, which takes seconds to draw."""
    with torch.device("meta"):
        features = build().features
    generator = torch.Generator().manual_seed(1)
    for layer in features.to_empty(device="cpu").modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            nn.init.normal_(layer.bias, std=0.1, generator=generator)
    return SimpleNamespace(features=features)


def trunk_state(trunk: str) -> dict[str, Tensor]:
    """Its trunk under torchvision's names: ``net.slice2.5.weight`` is ``features.5.weight``."""
    state = reference(trunk).net.state_dict()
    return {f"features.{name.split('.', 1)[1]}": value for name, value in state.items()}


def trunk_file(folder: Path, trunk: str) -> str:
    """That trunk as a file like torchvision's, which holds the classifier too."""
    path = folder / f"{trunk}.pth"
    torch.save(trunk_state(trunk) | {"classifier.0.weight": torch.zeros(2, 2)}, path)
    return str(path)


def pair_by_pair(x: Tensor, y: Tensor, trunk: str = "vgg") -> Tensor:
    """Distances (len(x), len(y)) as published code takes them: two images at a time."""
    network = reference(trunk)
    with torch.inference_mode():
        return torch.stack([torch.stack([network(a[None], b[None]).squeeze() for b in y]) for a in x])


def filled(metric: LPIPSMetric, generated: Tensor, real: Tensor | None = None, batch: int = 4) -> LPIPSMetric:
    """The metric, having seen these images."""
    for images in generated.split(batch):
        metric.update(images)
    if real is not None and metric.compares:
        metric.update(real, real=True)
    return metric
