"""DiffAugment: what it does to images, in closed form."""

import pytest
import torch
from torch import Tensor

from tenshot.errors import InputError
from tenshot.models.augmentation import DiffAugment


def random_images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_brightness_of_grey_images_is_uniform() -> None:
    grey = torch.full((20000, 3, 2, 2), 0.3)  # neither saturation nor contrast changes these
    out = DiffAugment("color")(grey)
    added = out[:, 0, 0, 0] - 0.3
    torch.testing.assert_close(out, (0.3 + added).view(-1, 1, 1, 1).expand_as(out), atol=1e-6, rtol=0)
    assert added.min() > -0.5001
    assert added.max() < 0.5001
    assert abs(added.mean()) < 5 * (1 / 12 / 20000) ** 0.5
    assert added.var().item() == pytest.approx(1 / 12, rel=0.03)


def test_saturation_and_contrast_are_factors_of_two_parts() -> None:
    """Of each pixel's distance from its grey, and of each grey's distance from the image's mean."""
    image = random_images(1, 3, 4, 4)
    out = DiffAugment("color")(image.expand(20000, -1, -1, -1))
    grey, out_grey = image.mean(1, keepdim=True), out.mean(1, keepdim=True)
    mean, out_mean = grey.mean((2, 3), keepdim=True), out_grey.mean((2, 3), keepdim=True)

    def factor(parts: Tensor, whole: Tensor) -> Tensor:
        """The factor (20000,), checked to be the same at every pixel."""
        found = (parts * whole).flatten(1).sum(1) / whole.square().sum()
        torch.testing.assert_close(parts, found.view(-1, 1, 1, 1) * whole, atol=1e-5, rtol=0)
        return found

    contrast = factor(out_grey - out_mean, grey - mean)
    both = factor(out - out_grey, image - grey)
    saturation = both / contrast
    for found, low, high in ((contrast, 0.5, 1.5), (saturation, 0.0, 2.0)):
        assert found.min() > low - 1e-3
        assert found.max() < high + 1e-3
        assert found.mean().item() == pytest.approx((low + high) / 2, abs=5 * (high - low) / (12 * 20000) ** 0.5)
        assert found.var().item() == pytest.approx((high - low) ** 2 / 12, rel=0.03)
    assert abs(torch.corrcoef(torch.stack((contrast, saturation)))[0, 1]) < 0.03


@pytest.mark.parametrize(("height", "width", "most"), [(16, 16, (2, 2)), (12, 20, (2, 3)), (3, 11, (0, 1))])
def test_translations_are_whole_pixels_zero_filled_and_all_alike_likely(
    height: int, width: int, most: tuple[int, int]
) -> None:
    image = random_images(1, 2, height, width)
    count = 6000
    out = DiffAugment("translation")(image.expand(count, -1, -1, -1))
    padded = torch.nn.functional.pad(image, (most[1], most[1], most[0], most[0]))
    seen = []
    for y in range(2 * most[0] + 1):
        for x in range(2 * most[1] + 1):
            same = (out == padded[:, :, y : y + height, x : x + width]).flatten(1).all(1)
            seen.append(same.sum().item())
    assert sum(seen) == count
    share = 1 / len(seen)
    for number in seen:
        assert abs(number - count * share) < 5 * (count * share * (1 - share)) ** 0.5 + 1e-9


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (5, 4)])
def test_cutouts_are_half_squares_anywhere(height: int, width: int) -> None:
    count = 4000
    out = DiffAugment("cutout")(torch.ones(count, 3, height, width))
    assert torch.equal(out[:, 0], out[:, 1])
    hole = out[:, 0] == 0
    for axis, size in ((1, height), (2, width)):
        covered = hole.any(3 - axis)  # (count, size)
        side = (size + 1) // 2
        # by enumeration: the square's centre is each of these with the same probability
        centres = range(size + (side + 1) % 2)
        expected = [sum(c - side // 2 <= i < c - side // 2 + side for c in centres) / len(centres) for i in range(size)]
        error = covered.float().mean(0) - torch.tensor(expected)
        assert error.abs().max() < 5 * (0.25 / count) ** 0.5
    area = hole.any(2).sum(1) * hole.any(1).sum(1)
    assert torch.equal(area, hole.sum((1, 2)))  # a rectangle without gaps


def test_each_image_its_own_draw() -> None:
    image = random_images(1, 3, 16, 16)
    out = DiffAugment()(image.expand(8, -1, -1, -1))
    assert len({tuple(one.flatten().tolist()) for one in out}) == 8


def test_parts_in_the_order_of_the_policy() -> None:
    """Brightness first leaves the hole at 0; brightness last lifts it."""
    ones = torch.ones(1, 3, 8, 8)
    assert (DiffAugment("color,cutout")(ones) == 0).any()
    assert not (DiffAugment("cutout, color")(ones) == 0).any()


def test_gradients_of_first_and_second_order() -> None:
    augment = DiffAugment()

    def fixed(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return augment(x).sin()

    images = random_images(2, 2, 3, 4).double().requires_grad_()
    torch.autograd.gradcheck(fixed, images)
    torch.autograd.gradgradcheck(fixed, images)


def test_result_is_float32_for_reduced_images() -> None:
    assert DiffAugment()(random_images(2, 3, 8, 8).bfloat16()).dtype == torch.float32


def test_nothing_waits_for_the_device() -> None:
    """Tensors on the meta device have no values to be read."""
    out = DiffAugment()(torch.empty(4, 3, 16, 16, device="meta"))
    assert out.shape == (4, 3, 16, 16)


@pytest.mark.parametrize(
    ("policy", "words"),
    [("color,translaton", "did you mean 'translation'"), ("", "choose from color"), ("color;cutout", "separated by")],
)
def test_unknown_policies(policy: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        DiffAugment(policy)
    assert "DiffAugment.policy" in str(error.value)
    assert "\n" not in str(error.value)
