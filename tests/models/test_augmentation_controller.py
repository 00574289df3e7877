"""ADA: how its probability follows the discriminator."""

import pytest
import torch
from torch import Tensor

from tenshot.models.augmentation import AdaptiveAugment


def observed(augment: AdaptiveAugment, positive: int, count: int) -> Tensor:
    augment.observe(torch.cat((torch.full((positive,), 3.0), torch.full((count - positive,), -0.1))))
    return augment.adjust()


def test_probability_follows_the_signs() -> None:
    augment = AdaptiveAugment(target=0.5, images_to_full=1000)
    r = observed(augment, 9, 10)
    assert r.item() == pytest.approx(0.8)
    assert augment.probability.item() == pytest.approx(0.01)
    observed(augment, 40, 40)
    assert augment.probability.item() == pytest.approx(0.05)
    observed(augment, 7, 10)  # r is 0.4
    assert augment.probability.item() == pytest.approx(0.04)
    observed(augment, 0, 500)
    assert augment.probability.item() == 0.0
    observed(augment, 2500, 2500)
    assert augment.probability.item() == 1.0


def test_a_window_is_all_that_was_seen_since_the_last_adjustment() -> None:
    augment = AdaptiveAugment(images_to_full=100)
    for logits in (torch.ones(4), torch.ones(4), -torch.ones(2)):
        augment.observe(logits)
    assert augment.signs.tolist() == [6.0, 10.0]
    assert augment.adjust().item() == pytest.approx(0.6)
    assert augment.signs.tolist() == [0.0, 0.0]


def test_nothing_seen_moves_nothing() -> None:
    augment = AdaptiveAugment()
    augment.probability.fill_(0.5)
    assert augment.adjust().item() == 0.0
    assert augment.probability.item() == 0.5


def test_maps_count_as_one_image_each_at_any_resolution() -> None:
    augment = AdaptiveAugment(images_to_full=100)
    maps = torch.ones(4, 1, 8, 6)
    maps[0] = -1
    maps[1, :, :4] = -1
    augment.observe(maps)
    assert augment.signs.tolist() == [1.0, 4.0]
    augment.observe(torch.ones(4))
    assert augment.signs.tolist() == [5.0, 8.0]
    assert augment.adjust().item() == pytest.approx(5 / 8)
    assert augment.probability.item() == pytest.approx(0.08)


def test_totals_of_all_ranks() -> None:
    ranks = [AdaptiveAugment(images_to_full=100) for _ in range(2)]
    ranks[0].observe(torch.ones(4))
    ranks[1].observe(torch.tensor([1.0, 1.0, 1.0, -1.0]))
    totals = ranks[0].signs + ranks[1].signs
    for augment in ranks:
        assert augment.adjust(totals).item() == pytest.approx(0.75)
        assert augment.probability.item() == pytest.approx(0.08)
        assert augment.signs.tolist() == [0.0, 0.0]


def test_state_goes_through_a_checkpoint() -> None:
    augment = AdaptiveAugment(images_to_full=100)
    observed(augment, 10, 10)
    augment.observe(torch.ones(3, requires_grad=True))
    restored = AdaptiveAugment(images_to_full=100)
    restored.load_state_dict(augment.state_dict())
    assert restored.probability.item() == pytest.approx(0.1)
    assert restored.signs.tolist() == [3.0, 3.0]
    assert not restored.signs.requires_grad
    assert list(augment.state_dict()) == ["probability", "signs"]


def test_a_fixed_probability_stays() -> None:
    fixed = AdaptiveAugment(probability=0.25, images_to_full=10)
    assert observed(fixed, 10, 10).item() == 1.0
    assert fixed.probability.item() == 0.25
    adaptive = AdaptiveAugment(images_to_full=10)
    observed(adaptive, 10, 10)
    fixed.load_state_dict(adaptive.state_dict())
    assert fixed.probability.item() == 0.25
