"""Which source ``tenshot adapt`` takes, and whether its nearness to the images can tell when to stop."""

import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from tenshot.cli.adapt import TELLS, choice
from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.pixels import from_pixels
from tenshot.datamodules.reading import fitted


def drawn(domain: str, count: int) -> Tensor:
    faces = SyntheticFaces(domain=domain, image_size=32, num_images=count, num_val=0)
    faces.setup()
    return from_pixels(faces.train_source.read(range(count))["image"])


def test_the_source_is_compared_with_the_images(monkeypatch: pytest.MonkeyPatch):
    """Sketches are far from sunglasses, which are like each other; faces not from photographs of different things."""
    samples = {"faces": drawn("faces", 6), "sketches": drawn("sketches", 6)}
    monkeypatch.setattr(choice, "samples_of", lambda source: samples[source.name])
    both = [choice.Source(name, choice.UNET, 32) for name in ("sketches", "faces")]
    found = choice.chosen(both, drawn("sunglasses", 5))
    assert found.source.name == "faces"
    assert found.distances["faces"] < found.distances["sketches"]
    assert list(found.distances) == ["sketches", "faces"]
    near = choice.chosen(both[:1], drawn("sunglasses", 5)).nearness
    assert near is not None
    assert near < TELLS
    photographs = [data.astronaut(), data.cat(), data.coffee(), data.rocket(), data.moon(), data.coins()]
    sizes = [fitted(Image.fromarray(pixels).convert("RGB"), 32) for pixels in photographs]
    alone = choice.chosen(both[1:], from_pixels(torch.stack(sizes)))
    assert alone.distances == {}
    assert alone.nearness is not None
    assert alone.nearness > TELLS


def test_a_large_source_is_not_drawn_from_without_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    source = choice.Source("large", choice.UNET, 256)
    assert choice.chosen([source], torch.zeros(2, 3, 256, 256)) == choice.Choice(source, {}, None)
