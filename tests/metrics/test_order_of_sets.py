"""Trained features tell sets apart as one sees them: halves of a set least, other accessories more, sketches most."""

import torch
from torch import Tensor, nn

from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.pixels import from_pixels
from tenshot.metrics import FrechetDistance, KernelDistance
from tenshot.models.features import EfficientNetLite0Features

COUNT = 28
"""Of each set; the Fréchet distance of halves falls with it, the kernel distance does not."""


def test_halves_of_a_set_are_nearer_than_domains_and_sunglasses_nearer_than_sketches():
    network = EfficientNetLite0Features()

    def rows(domain: str, first: int) -> Tensor:
        source = SyntheticFaces(domain=domain, image_size=32).reference(first + COUNT)
        images = from_pixels(source.read(range(first, first + COUNT))["image"])
        with torch.inference_mode():
            return torch.cat([network(part) for part in images.split(4)])

    def distances(generated: Tensor, real: Tensor) -> tuple[float, float]:
        found = []
        for metric in (FrechetDistance(nn.Identity()), KernelDistance(nn.Identity())):
            metric.update(generated)
            metric.update(real, real=True)
            found.append(next(iter(metric.report().values.values())))
        return found[0], found[1]

    faces = rows("faces", 0)
    others = {"the other half": ("faces", COUNT), "sunglasses": ("sunglasses", COUNT), "sketches": ("sketches", COUNT)}
    found = {name: distances(faces, rows(*which)) for name, which in others.items()}
    ordered = sorted(found, key=lambda name: found[name][0])
    for name in ordered:
        print(f"faces to {name}: FD {found[name][0]:.1f}, KD {found[name][1]:.4f}")
    assert ordered == list(others)
    half, sunglasses, sketches = found.values()
    assert 3 * half[0] < sketches[0]
    assert abs(half[1]) < 0.1 * sunglasses[1] < 0.1 * sketches[1]
