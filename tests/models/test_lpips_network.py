"""LPIPS of ours against the ``lpips`` package, and what the user is told when it cannot be had."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lpips_reference import pair_by_pair, reference, trunk_file, trunk_state
from PIL import Image
from torch import Tensor

from tenshot.errors import InputError
from tenshot.models.features import lpips as ours
from tenshot.models.features.lpips import LPIPSNetwork
from tenshot.models.features.resize import resize_like_pillow

TRUNKS = ("vgg", "alex", "squeeze")


def without_heads(network: LPIPSNetwork) -> Callable[[Tensor, Tensor], Tensor]:
    """The package's baseline, which only adds up the taps, with the trunk of a network of ours."""
    plain = copy.deepcopy(reference(network.trunk))
    drawn = network.layers.state_dict()
    plain.net.load_state_dict({name: drawn[name.split(".", 1)[1]] for name in plain.net.state_dict()})
    plain.lpips = False
    return plain


def random_images(count: int, side: int, seed: int = 0) -> Tensor:
    """Random blobs: uint8 levels in [-1, 1]."""
    x = torch.rand(count, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    x = torch.nn.functional.interpolate(x, size=(side, side), mode="bilinear")
    return (x * 255).round() / 127.5 - 1


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LPIPSNetwork]:
    folder = tmp_path_factory.mktemp("trunks")
    return {trunk: LPIPSNetwork(trunk, weights=trunk_file(folder, trunk)) for trunk in TRUNKS}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_distances_are_those_of_the_package(networks, trunk):
    x, y = random_images(3, 48), random_images(3, 48, seed=1)
    theirs = pair_by_pair(x, y, trunk).diagonal()
    torch.testing.assert_close(networks[trunk](x, y), theirs, rtol=1e-5, atol=1e-7)
    assert theirs.min() > 0.01


@pytest.mark.parametrize("trunk", TRUNKS)
def test_each_tap_holds_its_layer_of_the_distance(networks, trunk):
    x, y = random_images(1, 48), random_images(1, 48, seed=1)
    _, layers = reference(trunk)(x, y, retPerLayer=True)
    taps = [(a - b).square().sum() for a, b in zip(networks[trunk].embed(x), networks[trunk].embed(y), strict=True)]
    torch.testing.assert_close(torch.stack(taps), torch.stack([layer.squeeze() for layer in layers]))


def test_where_activations_die_the_package_is_followed_too():
    network = LPIPSNetwork.random()
    dark = network.shift + 1e-6 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    theirs = without_heads(network)(dark[:1], dark[1:]).flatten()
    torch.testing.assert_close(network(dark[:1], dark[1:]), theirs, rtol=1e-4, atol=1e-6)
    assert theirs > 1


def test_channels_that_weigh_nothing_are_not_kept(networks):
    x = random_images(1, 48)
    theirs = reference("alex")
    activations = theirs.net(theirs.scaling_layer(x))
    for row, head, full in zip(networks["alex"].embed(x), theirs.lins, activations, strict=True):
        weights = head.model[1].weight
        assert row.shape[1] == int((weights > 0).sum()) * full[0, 0].numel()
    assert networks["alex"].embed(x)[0].shape[1] < activations[0].numel() / 2


@pytest.mark.parametrize("trunk", TRUNKS)
def test_random_weights_are_the_package_without_heads(trunk):
    x, y = random_images(2, 48), random_images(2, 48, seed=1)
    before = torch.random.get_rng_state()
    network = LPIPSNetwork.random(trunk)
    assert torch.equal(torch.random.get_rng_state(), before)
    again = LPIPSNetwork.random(trunk)
    assert torch.equal(network(x, y), again(x, y))

    torch.testing.assert_close(network(x, y), without_heads(network)(x, y).flatten(), rtol=1e-5, atol=1e-7)


def test_every_tap_of_the_random_network_has_a_say():
    taps = LPIPSNetwork.random().embed(random_images(6, 64))
    shares = torch.stack([tap.var(dim=0).sum() for tap in taps])
    assert (shares / shares.sum()).min() > 0.02


def test_only_published_weights_are_called_lpips(networks, tmp_path, monkeypatch):
    file = trunk_file(tmp_path, "vgg")
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    network = LPIPSNetwork("vgg", weights=file)
    assert (network.name, network.sha256["trunk"]) == (f"dist_{digest[:8]}", digest)
    assert networks["alex"].name == f"dist_{networks['alex'].sha256['trunk'][:8]}_alex"
    assert (LPIPSNetwork.random().name, LPIPSNetwork.random("squeeze").name) == ("dist_random", "dist_random_squeeze")
    assert LPIPSNetwork.random().sha256 == LPIPSNetwork.random().sha256 != LPIPSNetwork.random("alex").sha256
    find = ours.weight_file
    monkeypatch.setattr(ours, "weight_file", lambda *words: replace(find(*words), published=True))
    assert LPIPSNetwork("vgg", weights=file).name == "lpips"
    assert LPIPSNetwork("alex", weights=trunk_file(tmp_path, "alex")).name == "lpips_alex"


def test_images_are_resized_as_pillow_does(networks):
    x = random_images(2, 96)
    resized = resize_like_pillow(x, 40, "bilinear")
    for image, small in zip(x, resized, strict=True):
        pixels = ((image + 1) * 127.5).round().permute(1, 2, 0).numpy().astype(np.uint8)
        theirs = np.asarray(Image.fromarray(pixels).resize((40, 40), Image.Resampling.BILINEAR)).astype(int)
        mine = ((small + 1) * 127.5).permute(1, 2, 0).numpy()
        assert np.abs(mine - mine.round()).max() < 1e-3
        assert np.abs(mine - theirs).max() < 1.01
        assert np.abs(mine - theirs).mean() < 0.01
    network = LPIPSNetwork.random(resize=40)
    torch.testing.assert_close(network(x[:1], x[1:]), LPIPSNetwork.random()(resized[:1], resized[1:]))


@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_least_size_is_the_least_that_works(trunk):
    network, least = LPIPSNetwork.random(trunk), ours.TRUNKS[trunk].min_size
    assert all(tap.numel() for tap in network.embed(random_images(1, 64)[..., :least, :least]))
    with pytest.raises(InputError, match=f"{least - 1} x 64 are too small for the LPIPS trunk {trunk}"):
        network.embed(random_images(1, 64)[..., : least - 1, :])
    with pytest.raises(RuntimeError):
        network.layers(random_images(1, 64)[..., : least - 1, :])


def test_bad_weights_are_one_line(tmp_path: Path, monkeypatch):
    alex = trunk_file(tmp_path, "alex")
    with pytest.raises(InputError, match=r"alex\.pth: does not fit"):
        LPIPSNetwork("vgg", weights=alex)
    with pytest.raises(InputError, match=r"nowhere\.pth: no such file"):
        LPIPSNetwork(weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(InputError, match=r"no LPIPS trunk 'vgg16' \(did you mean 'vgg'\?\): choose vgg, alex, squeeze"):
        LPIPSNetwork("vgg16")  # type: ignore[arg-type]
    torch.save({"lin0.model.1.weight": torch.tensor([0.1, -0.1]).view(1, 2, 1, 1)}, tmp_path / "heads.pth")
    monkeypatch.setattr(ours, "_heads_file", lambda trunk: tmp_path / "heads.pth")
    with pytest.raises(InputError, match=r"heads\.pth: has negative weights"):
        LPIPSNetwork("alex", weights=alex)


def test_the_file_is_read_by_torchvisions_names(networks):
    state = trunk_state("squeeze")
    ours_state = networks["squeeze"].layers.state_dict()
    assert {f"features.{name}" for name in ours_state} == set(state)
    assert all(torch.equal(ours_state[name.removeprefix("features.")], value) for name, value in state.items())
