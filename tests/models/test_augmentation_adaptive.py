"""ADA: what is drawn, and the matrices it amounts to."""

import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from tenshot.errors import InputError
from tenshot.models.augmentation import AdaptiveAugment
from tenshot.models.augmentation.transforms import TRANSFORMS, color_matrices, draw, geometry_matrices

CPU = torch.device("cpu")
COUNT = 100_000
P = 0.3
LAWS = {  # as published: the strength where the transform is applied
    "xflip": ("steps", 2), "rotate90": ("steps", 4), "xint": ("uniform", 0.125), "scale": ("normal", 0.2),
    "rotate": ("uniform", math.pi), "aniso": ("normal", 0.2), "xfrac": ("normal", 0.125), "brightness": ("normal", 0.2),
    "contrast": ("normal", 0.5), "lumaflip": ("steps", 2), "hue": ("uniform", math.pi), "saturation": ("normal", 1.0),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def random_images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_every_published_transform_is_there() -> None:
    assert LAWS.keys() == TRANSFORMS.keys()


@pytest.mark.parametrize("name", LAWS)
def test_distribution(name: str) -> None:
    law, spread = LAWS[name]
    strength = draw((name,), COUNT, torch.tensor(P), CPU)[name].double()
    p = 1 - math.sqrt(1 - P) if name == "rotate" else P
    if law == "steps":
        square = sum(k * k for k in range(int(spread))) / spread
        fourth = sum(k**4 for k in range(int(spread))) / spread
        mean, nonzero = (spread - 1) / 2, 1 - 1 / spread
        assert set(strength.unique().tolist()) == set(range(int(spread)))
    else:
        square = spread**2 / 3 if law == "uniform" else spread**2
        fourth = spread**4 / 5 if law == "uniform" else 3 * spread**4
        mean, nonzero = 0.0, 1.0
    if law == "uniform":
        assert strength.abs().max() <= spread
    for numbers in strength.unbind(1):
        deviations = 5 / math.sqrt(COUNT)
        assert abs((numbers != 0).double().mean() - p * nonzero) < deviations * math.sqrt(p * nonzero)
        assert abs(numbers.mean() - p * mean) < deviations * math.sqrt(p * square)
        assert abs(numbers.square().mean() - p * square) < deviations * math.sqrt(p * fourth)


@pytest.mark.parametrize("name", ["xint", "xfrac"])
def test_translations_of_both_axes_come_together_but_differ(name: str) -> None:
    x, y = draw((name,), COUNT, P, CPU)[name].unbind(1)
    assert torch.equal(x == 0, y == 0)
    assert abs(torch.corrcoef(torch.stack((x, y))[:, x != 0])[0, 1]) < 5 / math.sqrt(P * COUNT)


def test_one_of_the_two_rotations_comes_with_the_probability_of_a_transform() -> None:
    applied = draw(("rotate",), COUNT, P, CPU)["rotate"] != 0
    assert abs(applied.any(1).double().mean() - P) < 5 * math.sqrt(P * (1 - P) / COUNT)
    both = (1 - math.sqrt(1 - P)) ** 2
    assert abs(applied.all(1).double().mean() - both) < 5 * math.sqrt(both / COUNT)


def test_transforms_come_independently() -> None:
    strengths = draw(tuple(TRANSFORMS), COUNT, P, CPU)
    applied = torch.stack([(strength != 0).any(1).double() for strength in strengths.values()])
    correlation = torch.corrcoef(applied) - torch.eye(len(applied), dtype=torch.float64)
    assert correlation.abs().max() < 6 / math.sqrt(COUNT)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_never_and_always(p: float) -> None:
    strengths = draw(tuple(TRANSFORMS), 1000, torch.tensor(p), CPU)
    for name, strength in strengths.items():
        if LAWS[name][0] != "steps":
            assert bool((strength != 0).all() if p else (strength == 0).all()), name


def homogeneous(rows: Tensor) -> Tensor:
    return torch.cat((rows, torch.tensor([[[0.0, 0.0, 1.0]]], dtype=rows.dtype).expand(len(rows), -1, -1)), 1)


def test_geometry_is_the_product_of_its_transforms() -> None:
    """Against the forward transforms, one by one, inverted together."""
    strengths = {name: value.double() for name, value in draw(tuple(TRANSFORMS), 40, 1.0, CPU).items()}
    ours = homogeneous(geometry_matrices(strengths, 48, 32))

    def scaling(x: float, y: float) -> Tensor:
        return torch.tensor([[x, 0, 0], [0, y, 0], [0, 0, 1]], dtype=torch.float64)

    def rotation(angle: float) -> Tensor:
        c, s = math.cos(angle), math.sin(angle)
        return torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)

    def translation(x: float, y: float) -> Tensor:
        return torch.tensor([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=torch.float64)

    for i, matrix in enumerate(ours):
        at = {name: value[i].tolist() for name, value in strengths.items()}
        steps = [
            scaling(1 - 2 * at["xflip"][0], 1),
            rotation(-math.pi / 2 * at["rotate90"][0]),
            translation(round(at["xint"][0] * 32), round(at["xint"][1] * 48)),
            scaling(2 ** at["scale"][0], 2 ** at["scale"][0]),
            rotation(-at["rotate"][0]),
            scaling(2 ** at["aniso"][0], 2 ** -at["aniso"][0]),
            rotation(-at["rotate"][1]),
            translation(at["xfrac"][0] * 32, at["xfrac"][1] * 48),
        ]
        forward = torch.eye(3, dtype=torch.float64)
        for step in steps:
            forward = step @ forward
        torch.testing.assert_close(matrix, torch.linalg.inv(forward), atol=1e-9, rtol=0)


def one(**strengths: float) -> dict[str, Tensor]:
    return {name: torch.tensor([[value]], dtype=torch.float64) for name, value in strengths.items()}


def recolored(image: Tensor, **strengths: float) -> Tensor:
    """(N, 3, H, W), float64."""
    matrix = color_matrices(one(**strengths))
    unmoved = torch.eye(3, dtype=torch.float64)[None, :2].expand(len(image), -1, -1)
    return AdaptiveAugment()(image, (unmoved, matrix.expand(len(image), -1, -1)))


def test_colour_in_closed_form() -> None:
    x = random_images(2, 3, 4, 4).double()
    grey = x.mean(1, keepdim=True)
    cases = [
        (recolored(x, brightness=0.3), x + 0.3),
        (recolored(x, contrast=1.5), x * 2**1.5),
        (recolored(x, brightness=0.3, contrast=-1.0), (x + 0.3) / 2),
        (recolored(x, lumaflip=1.0), x - 2 * grey),
        (recolored(x, saturation=2.0), grey + 4 * (x - grey)),
        (recolored(x, hue=2 * math.pi / 3), x.roll(1, dims=1)),  # red becomes green
        (recolored(x, hue=math.pi), 2 * grey - x),
        (recolored(x, brightness=0.1, lumaflip=1.0, saturation=1.0), 2 * (x - grey) - (grey + 0.1)),
    ]
    for ours, expected in cases:
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=0)


def test_nothing_drawn_is_the_identity_to_the_last_bit() -> None:
    nothing = draw(tuple(TRANSFORMS), 3, 0.0, CPU)
    assert torch.equal(geometry_matrices(nothing, 7, 9), torch.eye(3)[None, :2].expand(3, -1, -1))
    assert torch.equal(color_matrices(nothing), torch.eye(4)[None, :3].expand(3, -1, -1))
    images = random_images(4, 3, 9, 14)
    assert torch.equal(AdaptiveAugment()(images), images)
    assert AdaptiveAugment(probability=0)(images) is images


def test_each_image_its_own_draw() -> None:
    images = random_images(1, 3, 8, 8).expand(16, -1, -1, -1)
    out = AdaptiveAugment(probability=1.0)(images)
    assert len({tuple(image.flatten().tolist()) for image in out}) == 16


@pytest.mark.parametrize("p", [0.25, 0.75])
@pytest.mark.parametrize("adaptive", [True, False])
def test_images_changed_are_as_many_as_the_probability_says(p: float, adaptive: bool) -> None:
    augment = AdaptiveAugment(probability=None if adaptive else p, transforms=["brightness"])
    augment.probability.fill_(p)
    images = random_images(1, 3, 2, 2).expand(5000, -1, -1, -1)
    changed = (augment(images) != images).flatten(1).any(1).double().mean()
    assert abs(changed - p) < 5 * math.sqrt(p * (1 - p) / 5000)


def test_groups_and_names_choose_what_is_applied() -> None:
    images = random_images(64, 3, 8, 8)
    luma = AdaptiveAugment(probability=1.0, transforms=["lumaflip"])(images)
    flipped = images - 2 * images.mean(1, keepdim=True)
    is_flipped = (luma - flipped).abs().flatten(1).amax(1) < 1e-5
    assert 16 < is_flipped.sum() < 48
    assert torch.equal(luma[~is_flipped], images[~is_flipped])

    blits = AdaptiveAugment(probability=1.0, transforms="b")
    assert (blits.geometry, blits.color) == (("xflip", "rotate90", "xint"), ())
    assert (*blits.geometry, *AdaptiveAugment(transforms="gc").geometry) == AdaptiveAugment().geometry
    grey = torch.full((8, 3, 8, 8), 0.25)
    torch.testing.assert_close(AdaptiveAugment(probability=1.0, transforms="bg")(grey), grey, atol=1e-5, rtol=0)


def test_gradients_of_first_and_second_order() -> None:
    strengths = {name: value.double() for name, value in draw(tuple(TRANSFORMS), 1, 1.0, CPU).items()}
    matrices = geometry_matrices(strengths, 3, 4), color_matrices(strengths)
    augment = AdaptiveAugment()
    images = random_images(1, 3, 3, 4).double().requires_grad_()
    torch.autograd.gradcheck(lambda x: augment(x, matrices), images)
    torch.autograd.gradgradcheck(lambda x: augment(x, matrices).sin(), images)


def test_float32_under_autocast() -> None:
    augment = AdaptiveAugment(probability=1.0)
    images = random_images(2, 3, 8, 8)
    torch.manual_seed(0)
    outside = augment(images)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = augment(images)
        assert augment(images.bfloat16()).dtype == torch.float32
    assert torch.equal(inside, outside)


def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors on the meta device have no values to be read."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it does not know that device
    augment = AdaptiveAugment().to("meta")
    images = torch.empty(4, 3, 12, 16, device="meta", requires_grad=True)
    augment(images).square().sum().backward()
    augment.observe(torch.empty(4, device="meta"))
    augment.adjust()
    assert images.grad is not None
    assert images.grad.shape == images.shape


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"probability": 1.5}, "AdaptiveAugment.probability is 1.5"),
        ({"target": 60.0}, "AdaptiveAugment.target is 60.0"),
        ({"images_to_full": 0}, "AdaptiveAugment.images_to_full is 0"),
        ({"transforms": "bgx"}, "'bgx'.*letters of 'bgc'"),
        ({"transforms": ""}, "letters of 'bgc'"),
        ({"transforms": []}, "AdaptiveAugment.transforms is empty"),
        ({"transforms": ["xflip", "contrst"]}, "'contrst' .did you mean 'contrast'"),
        ({"transforms": "xflp"}, "did you mean 'xflip'"),
    ],
)
def test_bad_input(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        AdaptiveAugment(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
