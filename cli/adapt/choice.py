"""Which source a generator is adapted from, by which method, with which recipe: what the user says, else what fits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from tenshot.checkpoints import STYLEGAN2, UNET, Kind, read
from tenshot.checkpoints.shipped import shipped_names
from tenshot.cli.registry import METHODS
from tenshot.errors import InputError
from tenshot.metrics.nearness import nearness
from tenshot.models.features.efficientnet_lite0 import EfficientNetLite0Features

__all__ = ["NEEDS_GPU", "WAYS", "Choice", "Recipe", "Source", "Way", "chosen", "recipe_for", "way_and_sources"]

DRAWN = 16
"""Samples of each source that are compared with the images."""

NEEDS_GPU = 128
"""Side of images in pixels beyond which a CPU takes days."""


@dataclass(frozen=True)
class Way:
    """A way to adapt.

    Args:
        name: What ``--method`` calls it.
        kind: The networks that it adapts.
        about: What it does, in a few words.
        recipes: Files in ``configs/`` by the size of the images that their numbers are for.
    """

    name: str
    kind: Kind[Any]
    about: str
    recipes: Mapping[int, str]


_ALL = (
    Way(
        "finetune", UNET, "trains on with the images, the quickest",
        {64: "ddpm/few_shot64.yaml", 256: "ddpm/finetune256.yaml"},
    ),
    Way(
        "ddpm_pa", UNET, "keeps how samples of the source differ from each other, takes twice as long as finetune",
        {64: "ddpm_pa/few_shot64.yaml", 256: "ddpm_pa/ffhq_babies256.yaml"},
    ),
    Way(
        "tgan", STYLEGAN2, "trains on with the images, the quickest for a GAN",
        {64: "stylegan2/few_shot64.yaml", 256: "stylegan2/tgan256.yaml"},
    ),
    Way(
        "cdc", STYLEGAN2, "keeps how samples of the source differ from each other",
        {64: "cdc/few_shot64.yaml", 256: "cdc/ffhq_babies256.yaml"},
    ),
)  # fmt: skip
WAYS = {way.name: way for way in _ALL}


@dataclass(frozen=True)
class Source:
    """Trained networks to start from: their name or path, what they are, and the side of their images in pixels."""

    name: str
    kind: Kind[Any]
    size: int


@dataclass(frozen=True)
class Choice:
    """A source, and how it was chosen.

    Args:
        source: Which.
        distances: The mean cosine distance of features of each source's samples to the images; empty for one alone.
        nearness: Of its samples to the images (docs/evaluation.md); none where nothing was drawn.
    """

    source: Source
    distances: Mapping[str, float]
    nearness: float | None


@dataclass(frozen=True)
class Recipe:
    """A file in ``configs/``: where it is, the size of images that its numbers are for, and what it holds."""

    path: Path
    size: int
    content: dict[str, Any]


def way_and_sources(method: str | None, source: str | None) -> tuple[Way, list[Source]]:
    """The way that the user names, or the first one for the source, or for a source that comes with the package.

    Args:
        method: What the user says, a name of ``WAYS``.
        source: A file, a run or ``tenshot:…``; none: all of the way's kind that come with the package.

    Raises:
        InputError: There is no source, it is of another kind than the way adapts, or does not tell what is needed.
    """
    there = [_described(name) for name in ([source] if source is not None else shipped_names())]
    fitting = [way for way in _ALL if any(each.kind is way.kind for each in there)]
    way = WAYS[method] if method else (fitting or _ALL)[0]
    if source is not None and not fitting:
        raise InputError(f"--source {source}: a {there[0].kind.words}, which no method here adapts: give a generator")
    if source is not None and way not in fitting:
        raise InputError(
            f"--method {way.name} adapts a {way.kind.words}, --source {source} is a {there[0].kind.words}: choose "
            f"--method {' or '.join(each.name for each in fitting)}, or another --source"
        )
    if way not in fitting:
        raise InputError(
            f"no {way.kind.words} comes with this version of tenshot, from which --method {way.name} could start: give "
            "one with --source, a checkpoint or the folder of a run"
        )
    return way, [each for each in there if each.kind is way.kind]


def _described(name: str) -> Source:
    trained = read(name)
    return Source(name, trained.kind, int(getattr(trained.config, trained.kind.image_size)))


def chosen(sources: Sequence[Source], images: Tensor) -> Choice:
    """The source whose samples are most like the images, by the mean cosine distance of features.

    Args:
        sources: At least one.
        images: (N, 3, H, W) float32 in [-1, 1], N >= 2.
    """
    if max(source.size for source in sources) > NEEDS_GPU and not torch.cuda.is_available():
        return Choice(sources[0], {}, None)  # to draw would take hours
    features = EfficientNetLite0Features()
    ours, mirrored = features(images), features(images.flip(3))
    drawn = {source.name: features(samples_of(source)) for source in sources}
    unit = F.normalize(ours, dim=1)
    distances = {name: 1 - (unit @ F.normalize(rows, dim=1).T).mean().item() for name, rows in drawn.items()}
    source = min(sources, key=lambda each: distances[each.name])
    start = nearness(drawn[source.name].double(), ours.double(), mirrored.double())
    return Choice(source, distances if len(sources) > 1 else {}, start)


def samples_of(source: Source) -> Tensor:
    """A few of its images: (DRAWN, 3, S, S) float32 in [-1, 1]."""
    method = next(each for each in METHODS if each.__name__ == source.kind.method)
    module: Any = method(init_from=source.name)
    module.configure_model()
    if torch.cuda.is_available():
        module.cuda()
    with torch.no_grad():
        drawn: Tensor = module.sample(torch.arange(DRAWN, device=module.device), preview=True).cpu()
    return drawn


def recipe_for(way: Way, size: int) -> Recipe:
    """The recipe of a way whose images are nearest in size."""
    nearest_size = min(way.recipes, key=lambda made_for: abs(math.log(made_for / size)))
    path = Path(str(files("tenshot.configs"))) / way.recipes[nearest_size]
    return Recipe(path, nearest_size, yaml.safe_load(path.read_text()))
