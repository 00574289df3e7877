"""The augmentations against the official code, on the same random numbers or the same matrices."""

import os
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
import torch
from official_code import official
from torch import Tensor

from tenshot.models.augmentation import AdaptiveAugment, DiffAugment
from tenshot.models.augmentation.transforms import TRANSFORMS, color_matrices, draw, geometry_matrices

LAWS: dict[str, Callable[[Tensor], Tensor]] = {  # from uniform or normal numbers to strengths
    "xflip": lambda u: (2 * u).floor(), "rotate90": lambda u: (4 * u).floor(), "xint": lambda u: (u * 2 - 1) / 8,
    "scale": lambda z: z * 0.2, "before": lambda u: (u * 2 - 1) * torch.pi, "aniso": lambda z: z * 0.2,
    "after": lambda u: (u * 2 - 1) * torch.pi, "xfrac": lambda z: z / 8, "brightness": lambda z: z * 0.2,
    "contrast": lambda z: z * 0.5, "lumaflip": lambda u: (2 * u).floor(), "hue": lambda u: (u * 2 - 1) * torch.pi,
    "saturation": lambda z: z,
}  # fmt: skip
"""In the order in which the published pipeline draws."""
WIDE = torch.tensor([[[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]]])
"""The published pipeline takes one margin for the whole batch; with such an image in it, it is wide enough for all."""


def random_images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def within_one_reflection(geometry: Tensor, height: int, width: int) -> Tensor:
    """(N,) which images read nothing, 3 px beyond their border, from where the published code has only black."""
    reach = torch.tensor([[width - 1.0], [height - 1.0]]) / 2
    read = geometry[:, :, :2].abs() @ (reach + 3) + geometry[:, :, 2:].abs() + 3
    return (read <= 3 * reach).flatten(1).all(1)


@pytest.fixture
def nvlabs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if "STYLEGAN2_ADA" in os.environ:
        monkeypatch.syspath_prepend(os.environ["STYLEGAN2_ADA"])
    return official("STYLEGAN2_ADA", "training.augment")


@pytest.mark.parametrize("probability", [0.5, 1.0])
@pytest.mark.parametrize("size", [(32, 32), (20, 28)])
def test_nvlabs_pipeline_on_the_same_random_numbers(
    nvlabs: ModuleType, monkeypatch: pytest.MonkeyPatch, probability: float, size: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    count = 12
    images = random_images(count, 3, *size)
    drawn: list[Tensor] = []

    def recording(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*arguments: object, **options: object) -> Tensor:
            drawn.append(function(*arguments, **options))
            if len(drawn) == 7:  # the normal numbers of the isotropic scale
                drawn[-1][-1] = -8.0
            if len(drawn) == 8:  # whether it is applied
                drawn[-1][-1] = 0.0
            return drawn[-1]

        return call

    for name in ("rand", "randn"):
        monkeypatch.setattr(torch, name, recording(getattr(torch, name)))
    pipeline = nvlabs.AugmentPipe(**dict.fromkeys(TRANSFORMS, 1))
    pipeline.p.fill_(probability)
    expected = pipeline(images)
    monkeypatch.undo()

    strengths = {}
    for (name, law), numbers, chances in zip(LAWS.items(), drawn[::2], drawn[1::2], strict=True):
        p = 1 - (1 - probability) ** 0.5 if name in ("before", "after") else probability
        strengths[name] = law(numbers.view(count, -1)) * (chances.view(count, -1) < p)
    strengths["rotate"] = torch.cat((strengths.pop("before"), strengths.pop("after")), dim=1)
    assert all((strength != 0).any() for strength in strengths.values())

    geometry = geometry_matrices(strengths, *size)
    same = within_one_reflection(geometry, *size)
    assert same.sum() >= 6
    ours = AdaptiveAugment()(images, (geometry, color_matrices(strengths)))
    assert (ours - expected)[same].abs().max() < 2e-5 * expected[same].abs().max()
    assert (ours - images)[same].abs().max() > 0.5


@pytest.fixture
def rosinality(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Its extensions are compiled at import; only their plain forms are used here."""
    monkeypatch.setattr("torch.utils.cpp_extension.load", lambda *arguments, **options: SimpleNamespace())
    plain = official("STYLEGAN2_PYTORCH", "op.upfirdn2d")
    for name, members in {"op": {"upfirdn2d": plain.upfirdn2d}, "distributed": {"reduce_sum": lambda x: x}}.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return official("STYLEGAN2_PYTORCH", ".non_leaking")


def test_rosinality_pipeline_with_the_same_matrices(rosinality: ModuleType) -> None:
    torch.manual_seed(2)
    images = random_images(6, 3, 32, 32)
    strengths = draw(tuple(TRANSFORMS), 6, 1.0, torch.device("cpu"))
    geometry, color = geometry_matrices(strengths, 32, 32), color_matrices(strengths)
    geometry[-1:] = WIDE

    def homogeneous(matrix: Tensor) -> Tensor:
        last = torch.eye(matrix.shape[2])[-1:].expand(len(matrix), 1, -1)
        return torch.cat((matrix, last), dim=1)

    same = within_one_reflection(geometry, 32, 32)
    assert same.sum() >= 4
    ours = AdaptiveAugment()(images, (geometry, color))
    theirs, _ = rosinality.augment(images, 1.0, (homogeneous(geometry), homogeneous(color)))
    assert (ours - theirs)[same].abs().max() < 2e-5 * theirs[same].abs().max()


def test_rosinality_controller(rosinality: ModuleType) -> None:
    theirs = rosinality.AdaptiveAugment(0.6, 50, 4, torch.device("cpu"))
    ours = AdaptiveAugment(images_to_full=50)
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for iteration in range(80):
        logits = torch.randn(4, generator=generator) + (2 if iteration // 20 % 2 == 0 else 0)
        expected = theirs.tune(logits)
        ours.observe(logits)
        if iteration % 4 == 3:
            ours.adjust()
        assert ours.probability.item() == pytest.approx(expected, abs=1e-6)
        seen.add(round(expected, 2))
    assert {0.0, 1.0} < seen


@pytest.mark.parametrize("policy", ["color", "translation", "cutout", "color,translation,cutout"])
@pytest.mark.parametrize("size", [(16, 16), (13, 20), (7, 9)])
def test_diff_augment_on_the_same_random_numbers(policy: str, size: tuple[int, int]) -> None:
    theirs = official("DATA_EFFICIENT_GANS", ".DiffAugment_pytorch")
    images = random_images(8, 3, *size)
    torch.manual_seed(0)
    expected = theirs.DiffAugment(images, policy)
    torch.manual_seed(0)
    torch.testing.assert_close(DiffAugment(policy)(images), expected, atol=1e-6, rtol=1e-6)
