from collections.abc import Mapping

import pytest
import torch

from tenshot.distributed.seeding import CPU_BATCH, SeededNoise, in_equal_batches, position_seed

CPU = torch.device("cpu")


@pytest.mark.parametrize(("before", "first"), [((), 0), ((), 5 << 32), ((7, 3), 0), ((0,), (1 << 63) - 100_000)])
def test_consecutive_numbers_never_share_a_seed(before: tuple[int, ...], first: int):
    seeds = {position_seed([*before, number]) for number in range(first, first + 100_000)}

    assert len(seeds) == 100_000
    assert min(seeds) >= 0
    assert max(seeds) < 2**32


def test_every_number_of_a_position_counts_and_so_does_its_place():
    positions = [(a, b, c) for a in range(20) for b in range(20) for c in range(20)]
    positions += [(a << 32, b, 0) for a in range(1, 20) for b in range(20)]
    seeds = [position_seed(position) for position in positions]

    assert len(set(seeds)) == len(seeds)
    assert position_seed([1, 2]) != position_seed([2, 1])


def test_neighbouring_numbers_give_seeds_far_apart():
    flipped = [(position_seed([n]) ^ position_seed([n + 1])).bit_count() for n in range(10_000)]
    assert 15.8 < sum(flipped) / len(flipped) < 16.2  # of 32 bits half


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    """(seeds, draws, numbers), of consecutive seeds."""
    source = SeededNoise(torch.arange(4000), CPU)
    return torch.stack([source.normal(4, 8), source.normal_like(torch.empty(4000, 4, 8))], dim=1).flatten(2).double()


def test_the_noise_is_standard_normal(noise: torch.Tensor):
    count = noise.numel()
    moments = [noise.pow(power).mean().item() for power in (1, 2, 3, 4)]
    spreads = [(variance / count) ** 0.5 for variance in (1, 2, 15, 96)]  # of x, x^2, x^3, x^4

    for moment, expected, spread in zip(moments, (0, 1, 0, 3), spreads, strict=True):
        assert abs(moment - expected) < 4 * spread


def test_each_number_of_a_sample_varies_over_the_seeds(noise: torch.Tensor):
    """Also the first one, which badly scattered seeds would make alike."""
    spread = len(noise) ** -0.5
    assert (noise.mean(0).abs() < 5 * spread).all()
    assert ((noise.square().mean(0) - 1).abs() < 5 * spread * 2**0.5).all()


@pytest.mark.parametrize("lag", [1, 2, 256])
def test_neighbours_are_independent(noise: torch.Tensor, lag: int):
    products = noise[lag:] * noise[:-lag]
    assert abs(products.mean().item()) < 4 * products.numel() ** -0.5
    assert (products.mean(0).abs() < 5 * len(products) ** -0.5).all()


def test_successive_draws_are_independent(noise: torch.Tensor):
    products = noise[:, 0] * noise[:, 1]
    assert abs(products.mean().item()) < 4 * products.numel() ** -0.5


def test_a_sample_does_not_depend_on_its_neighbours():
    alone, among = SeededNoise(torch.tensor([5]), CPU), SeededNoise(torch.tensor([2, 9, 5]), CPU)

    assert torch.equal(alone.integers(10), among.integers(10)[2:])
    for _ in range(3):
        assert torch.equal(alone.normal(2, 3), among.normal(2, 3)[2:])


def test_integers_are_uniform():
    counts = SeededNoise(torch.arange(8000), CPU).integers(8).bincount(minlength=8)
    assert ((counts - 1000).double().square() / 1000).sum() < 30  # chi-square of 7 degrees of freedom, p = 1e-4


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    SeededNoise(torch.arange(3), CPU).normal(4)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("conditional", [False, True])
def test_batches_on_a_cpu_are_all_of_one_size(count: int, conditional: bool):
    seeds, condition = torch.arange(count), {"label": 10 * torch.arange(count)} if conditional else None
    sizes = []

    def draw(seeds: torch.Tensor, condition: Mapping[str, torch.Tensor]) -> torch.Tensor:
        sizes.append(len(seeds))
        return seeds + condition["label"] if conditional else seeds

    drawn = in_equal_batches(draw, seeds, condition, CPU)
    assert torch.equal(drawn, 11 * seeds if conditional else seeds)
    assert set(sizes) == {CPU_BATCH}


def test_batches_elsewhere_stay_whole():
    sizes = []
    in_equal_batches(lambda s, _: sizes.append(len(s)) or s, torch.arange(9), None, torch.device("cuda"))  # type: ignore[func-returns-value]
    assert sizes == [9]
