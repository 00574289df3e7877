"""Feature networks: equal to torch-fidelity's with the same weights; random ones the same for ever."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3, feature_extractor_vgg16
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchvision.models import vgg16

from tenshot.errors import InputError
from tenshot.metrics import FrechetDistance, InceptionScore
from tenshot.models.features import (
    InceptionFeatures,
    RandomFeatures,
    VGG16Features,
    factory,
    feature_network,
    weights_hash,
)
from tenshot.models.features.inception import PytorchFidFeatures
from tenshot.models.features.resize import resize_like_tensorflow1
from tenshot.models.pretrained import weight_files


def pixels(count: int = 2, height: int = 24, width: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def as_given(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def randomised(network: nn.Module) -> dict[str, Tensor]:
    """Weights with which activations neither die out nor grow, and normalisation does something."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.dim() > 1:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        elif value.is_floating_point():
            low, high = (-0.1, 0.1) if name.endswith(("bias", "mean")) else (0.8, 1.2)
            value.uniform_(low, high, generator=generator)
    return network.state_dict()


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights for torch-fidelity's Inception."""
    unread = mock.patch.object(feature_extractor_inceptionv3, "load_state_dict_from_url")
    with torch.device("meta"), unread, mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(randomised(network.to_empty(device="cpu")), path)
    return path


def test_inception_equals_torch_fidelity(inception: Path):
    layers = ["2048", "logits_unbiased"]
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", layers, feature_extractor_weights_path=str(inception))
    images = pixels()
    features, logits = theirs(images)
    network = InceptionFeatures(str(inception))
    ours = network(as_given(images))
    assert ours.dtype == torch.float32
    assert features.std(dim=0).mean() > 1e-3 * features.abs().mean()  # the two images are told apart
    torch.testing.assert_close(ours, features, rtol=1e-5, atol=1e-5 * features.abs().max().item())
    torch.testing.assert_close(network.logits(ours), logits, rtol=1e-5, atol=1e-5 * logits.abs().max().item())


def test_the_spatial_features_are_those_of_the_layer_that_sfid_is_of(inception: Path):
    """``mixed_6/conv:0`` of the graph, [..., :7]: what torch-fidelity's 1x1 branch of Mixed_6d returns."""
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["768"], feature_extractor_weights_path=str(inception))
    branches: list[Tensor] = []
    theirs.Mixed_6d.branch1x1.register_forward_hook(lambda module, taken, out: branches.append(out))
    theirs(pixels())
    (expected,) = branches
    assert expected.shape == (2, 192, 17, 17)
    assert (expected[:, :7] == 0).any()  # after the ReLU
    network = InceptionFeatures(str(inception))
    outputs = network.outputs(as_given(pixels()))
    torch.testing.assert_close(outputs["spatial"], expected[:, :7].flatten(1), rtol=1e-4, atol=1e-5)
    assert torch.equal(outputs["features"], network(as_given(pixels())))


def test_inception_without_the_public_weights_never_goes_by_the_published_name(inception: Path):
    network = InceptionFeatures(str(inception))
    digest = weight_files.sha256(inception)
    assert network.weights_sha256 == digest
    assert network.name == f"inception_{digest[:8]}"
    with mock.patch.object(weight_files, "_hash_prefix", return_value=digest[:8]):
        assert InceptionFeatures(str(inception)).name == "inception"


def test_fid_and_inception_score_go_by_these_names_with_the_public_weights_alone(inception: Path):
    digest, rows = weight_files.sha256(inception), torch.rand(3, 2048)
    for published in (False, True):
        prefix = digest[:8] if published else "0" * 8
        with mock.patch.object(weight_files, "_hash_prefix", return_value=prefix):
            metrics = [
                FrechetDistance("inception", str(inception)),
                InceptionScore("inception", str(inception), splits=1),
            ]
            with mock.patch.object(InceptionFeatures, "outputs", lambda self, x: {"features": rows[: len(x)]}):
                for metric in metrics:
                    metric.update(pixels(3))
                metrics[0].update(pixels(2), real=True)
            names = [next(iter(metric.report().values)) for metric in metrics]
        suffix = f"inception_{digest[:8]}"
        assert names == (["fid", "is"] if published else [f"fd_{suffix}", f"is_{suffix}"])
        assert metrics[0].report().settings["weights_sha256"] == digest
        assert metrics[1].rows("generated").shape == (3, 1008)
        del metrics, metric
        gc.collect()


def test_the_resizing_of_pytorch_fid_has_a_name_of_its_own(inception: Path):
    """Half-pixel bilinear without antialiasing, written out; the network is the same."""
    with mock.patch.object(weight_files, "_hash_prefix", return_value=weight_files.sha256(inception)[:8]):
        network = PytorchFidFeatures(str(inception))
        assert next(iter(FrechetDistance(network).names())) == "fd_inception_pytorch_fid"
    grey = torch.randint(256, (1, 3, 8, 20), generator=torch.Generator().manual_seed(0)).float()

    def rows(length: int) -> np.ndarray:
        at = ((np.arange(299) + 0.5) * length / 299 - 0.5).clip(0, length - 1)
        low = np.floor(at).astype(int)
        weights = np.zeros((299, length))
        weights[np.arange(299), low] += 1 - (at - low)
        weights[np.arange(299), (low + 1).clip(max=length - 1)] += at - low
        return weights

    expected = np.einsum("ih,nchw,jw->ncij", rows(8), grey.double().numpy() / 127.5 - 1, rows(20))
    np.testing.assert_allclose(network.prepared(grey).numpy(), expected, atol=1e-5)
    with torch.no_grad():
        same = network(grey / 127.5 - 1)
        plain = InceptionFeatures(str(inception))
    torch.testing.assert_close(same, plain.layers(network.prepared(grey)).flatten(1), rtol=1e-4, atol=1e-6)


def test_weights_of_another_network_are_one_line(inception: Path, tmp_path: Path):
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    for build in (InceptionFeatures, VGG16Features):
        with pytest.raises(InputError, match=r"other\.pth") as error:
            build(str(tmp_path / "other.pth"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_torn_weights_are_one_line(inception: Path, tmp_path: Path, keep: float):
    content = inception.read_bytes()
    (tmp_path / "torn.pth").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=r"torn\.pth: truncated or not a checkpoint") as error:
        InceptionFeatures(str(tmp_path / "torn.pth"))
    assert "\n" not in str(error.value)


def test_vgg16_equals_torch_fidelity(tmp_path: Path):
    narrow = mock.patch.object(nn.Linear, "__init__", _narrow(nn.Linear.__init__))
    with narrow, torch.device("meta"):
        network = vgg16()
    path = tmp_path / "vgg16.pth"
    torch.save(randomised(network.to_empty(device="cpu")), path)
    with narrow:
        extractor = feature_extractor_vgg16.FeatureExtractorVGG16
        theirs = extractor("vgg16", ["fc2_relu"], feature_extractor_weights_path=str(path))
        ours = VGG16Features(str(path))
    (expected,) = theirs(pixels(1))
    got = ours(as_given(pixels(1)))
    assert expected.std() > 0
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert ours.name.startswith("vgg16_")


def _narrow(build):
    """Fully connected layers of 64 units for 4096: the 120 million weights between them take a second each."""

    def init(self, fan_in: int, fan_out: int, *args, **kwargs) -> None:
        fewer = {4096: 64}
        build(self, fewer.get(fan_in, fan_in), fewer.get(fan_out, fan_out), *args, **kwargs)

    return init


@pytest.mark.parametrize(
    ("height", "width", "size"), [(24, 40, 99), (32, 32, 299), (299, 299, 299), (500, 333, 299), (1, 1, 7)]
)
def test_resizing_equals_tensorflow_1_as_torch_fidelity_does_it(height: int, width: int, size: int):
    x = pixels(1, height, width).float()
    expected = interpolate_bilinear_2d_like_tensorflow1x(x, size=(size, size), align_corners=False)
    torch.testing.assert_close(resize_like_tensorflow1(x, size), expected, rtol=0, atol=1e-4)


# Random features


def test_random_features_are_the_same_on_every_machine():
    assert RandomFeatures().weights_sha256 == "a66a744b2a583a917e399960b39dcb10a254a6047e5044a90b6826af73083041"
    assert RandomFeatures(1).weights_sha256 != RandomFeatures().weights_sha256
    assert [RandomFeatures().name, RandomFeatures(1).name] == ["random", "random1"]
    rng = np.random.RandomState(0)
    weights = rng.randint(-(2**23), 2**23, (32, 3, 3, 3)) / 2**23
    weights = 1.5 * (weights - weights.mean(axis=(2, 3), keepdims=True)) * (6 / 27) ** 0.5
    first = RandomFeatures().layers[0].weight.double()
    torch.testing.assert_close(first, torch.from_numpy(weights), rtol=1e-6, atol=1e-8)


def test_building_a_network_leaves_the_random_state_of_the_program_alone(inception: Path):
    before = torch.get_rng_state()
    RandomFeatures()
    InceptionFeatures(str(inception))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("side", [1, 7, 32, 48, 64, 100, 256])
def test_random_features_take_images_of_any_size(side: int):
    features = RandomFeatures()(as_given(pixels(2, side, side)))
    assert features.shape == (2, 496)
    assert features.isfinite().all()


def test_random_features_cost_little_at_32_pixels():
    work = []
    network = RandomFeatures()
    for layer in network.layers:
        layer.register_forward_hook(lambda m, i, out: work.append(2 * 9 * m.in_channels * out[0].numel()))
    network(as_given(pixels(1, 32, 32)))
    assert sum(work) < 20e6


def test_random_features_tell_where_things_are_and_what_colour_and_texture_they_have():
    left = torch.zeros(1, 3, 32, 32)
    left[..., :16] = 1
    red = torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    stripes = torch.tensor([1.0, -1.0]).repeat(16).view(1, 1, 1, 32).expand(1, 3, 32, 32)
    rows = RandomFeatures()(torch.cat([left, left.flip(3), red, red.flip(1), stripes, stripes.mT]))
    assert torch.cdist(rows, rows)[~torch.eye(6, dtype=torch.bool)].min() > 0.1 * rows.std()


# The factory


@pytest.fixture
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    with mock.patch.dict(weight_files.URLS, dict.fromkeys(weight_files.URLS, f"http://127.0.0.1:9/a-{'0' * 8}.pth")):
        yield


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("name", ["inception", "vgg16"])
def test_metrics_ask_for_missing_weights_before_the_first_image(name: str, tmp_path: Path):
    metric = FrechetDistance(name)
    with pytest.raises(InputError, match="or choose features efficientnet_lite0") as error:
        metric.prepare()
    assert str(tmp_path) in str(error.value)
    FrechetDistance("random").prepare()


def test_one_network_of_a_name_serves_all_who_ask_until_none_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(factory, "_LOADED", weakref.WeakValueDictionary())  # other tests' metrics may still hold one
    first = feature_network("random")
    assert feature_network("random") is first
    left = weakref.ref(first)
    del first
    gc.collect()
    assert left() is None


def test_they_stay_in_evaluation_mode_and_take_no_gradients():
    network = RandomFeatures().train()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_hash_of_weights_tells_values_names_and_shapes_apart():
    def hashed(**weights: Tensor) -> str | None:
        module = nn.Module()
        for name, weight in weights.items():
            module.register_buffer(name, weight)
        return weights_hash(module)

    a = torch.arange(4.0)
    hashes = [hashed(a=a), hashed(a=a + 1), hashed(b=a), hashed(a=a.view(2, 2)), hashed(a=a.double())]
    assert len(set(hashes)) == 5
    assert hashed(a=a.clone()) == hashes[0]
    assert hashed() is None
    assert hashed(a=torch.tensor(1.0)) is not None
