"""sFID: FID's formula on the places of a map, of Inception alone."""

import numpy as np
import pytest
import torch
from scipy import linalg
from tiny_inception import TinyInception
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.metrics import FrechetDistance, SpatialFrechetDistance


def random_images(count: int, seed: int, side: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def measured(metric: FrechetDistance, generated: Tensor, real: Tensor) -> float:
    for part in generated.split(7):
        metric.update(part)
    metric.update(real, real=True)
    return metric.compute().item()


def test_it_is_the_distance_of_seven_channels_at_every_place():
    """Loops over images, channels and places in float64, SciPy's root of a matrix."""
    network = TinyInception()
    generated, real = random_images(80, 0), random_images(70, 1).clamp(max=200)
    conv = network.layers.Mixed_6d
    weight, bias = conv.weight.double().numpy(), conv.bias.double().numpy()

    def rows(images: Tensor) -> np.ndarray:
        grey = (images.double().numpy() - 128) / 128
        table = np.empty((len(images), 7 * 2 * 2))
        for n in range(len(images)):
            for place in np.ndindex(2, 2):
                patch = grey[n, :, 4 * place[0] : 4 * place[0] + 4, 4 * place[1] : 4 * place[1] + 4]
                for channel in range(7):
                    column = channel * 4 + place[0] * 2 + place[1]
                    table[n, column] = (patch * weight[channel]).sum() + bias[channel]
        return table

    a, b = rows(generated), rows(real)
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
    assert measured(SpatialFrechetDistance(network), generated, real) == pytest.approx(expected, rel=1e-4)


def test_it_sees_where_things_are_and_fid_of_the_mean_does_not():
    network, images = TinyInception(), random_images(60, 0)
    moved = images.roll(4, dims=3)  # by one place of the map
    images[..., :4] //= 2
    moved[..., 4:] //= 2
    assert measured(FrechetDistance(network), images, moved) < 1e-6
    assert measured(SpatialFrechetDistance(network), images, moved) > 0.1


def test_one_pass_of_the_network_serves_both():
    network, passes = TinyInception(), []
    network.layers.register_forward_hook(lambda *hooked: passes.append(1))
    network.layers.Mixed_6d.register_forward_hook(lambda *hooked: passes.append(1))
    for metric in (SpatialFrechetDistance(network), FrechetDistance(network), SpatialFrechetDistance(network)):
        metric.update(random_images(5, 0))
    assert len(passes) == 1


def test_only_the_published_network_gives_sfid():
    assert SpatialFrechetDistance(TinyInception(published=True)).names() == ("sfid",)
    assert SpatialFrechetDistance(TinyInception()).names() == ("sfd_inception_random",)


@pytest.mark.parametrize("features", ["efficientnet_lite0", "dinov2", "vgg16", "random", nn.Identity()])
def test_no_other_network_has_such_a_layer(features: str | nn.Module):
    with pytest.raises(InputError, match=r"sFID\) is of a layer of Inception.*features published") as error:
        SpatialFrechetDistance(features)
    assert "\n" not in str(error.value)
