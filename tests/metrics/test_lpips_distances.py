"""Distances from rows against pairs taken one by one, and that each image goes through the trunk once."""

from pathlib import Path

import pytest
import torch
from lpips_reference import pair_by_pair, trunk_file
from torch import Tensor

from tenshot.datamodules.pixels import from_pixels
from tenshot.metrics import lpips_distances
from tenshot.metrics.lpips_distances import Spread, Targets, target_distances
from tenshot.metrics.lpips_rows import EmbeddedImages, FeatureRows, held_bytes
from tenshot.models.features.embedding import Rows
from tenshot.models.features.lpips import LPIPSNetwork


def pixels(count: int, side: int = 40, seed: int = 0) -> Tensor:
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def squared_distances(a: Rows, b: Rows) -> Tensor:
    """Each with each, in float64."""
    parts = zip(a, b, strict=True)
    return sum(
        (torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2 for x, y in parts)
    )


class Counter:
    """Counts the images that go through a trunk."""

    def __init__(self, network: LPIPSNetwork) -> None:
        self.passes = 0
        network.layers[0].register_forward_hook(self._count)

    def _count(self, layer: torch.nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.passes += len(output)


@pytest.mark.parametrize("trunk", ["vgg", "alex", "squeeze"])
def test_distances_to_targets_are_those_of_the_package(trunk: str, tmp_path: Path):
    network = LPIPSNetwork(trunk, weights=trunk_file(tmp_path, trunk))
    generated, real = pixels(5), pixels(3, seed=1)
    found = target_distances(EmbeddedImages(network, generated), torch.arange(5), EmbeddedImages(network, real))
    expected = pair_by_pair(from_pixels(generated), from_pixels(real), trunk).double()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_products_lose_nothing_far_from_the_origin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lpips_distances, "COLUMNS", 100)  # several blocks in a tap
    offset = 10 * numbers(1, 450)
    rows, targets = [(offset + numbers(n, 450, seed=n)).split(300, dim=1) for n in (4, 6)]
    exact = squared_distances(rows, targets)
    plain = sum(
        a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T for a, b in zip(rows, targets, strict=True)
    )
    found = Targets([tap.clone() for tap in targets]).distances(list(rows))
    assert (found - exact).abs().max() < 1e-5 * exact.max() / 10
    assert (plain - exact).abs().max() > 10 * (found - exact).abs().max()


def test_near_copies_are_as_exact_as_the_rest():
    targets = numbers(5, 3000)
    rows = targets + 1e-4 * numbers(5, 3000, seed=1)
    found = Targets([targets.clone()]).distances([rows])
    exact = squared_distances([rows], [targets])
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=0)
    assert Targets([targets.clone()]).distances([targets]).diagonal().tolist() == [0.0] * 5


def test_of_equal_targets_the_first_is_the_nearest():
    targets, rows = numbers(5, 5000), numbers(33, 5000, seed=1)
    found = Targets([targets.repeat(2, 1)]).distances([rows])  # whose products differ in the last digit
    nearest = found.argmin(dim=1)
    assert nearest.tolist() == squared_distances([rows], [targets]).argmin(dim=1).tolist()


def test_targets_beyond_the_memory_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch):
    network = LPIPSNetwork.random("alex")
    generated, real = EmbeddedImages(network, pixels(6)), EmbeddedImages(network, pixels(9, seed=1))
    together = target_distances(generated, torch.arange(6), real)
    monkeypatch.setattr(lpips_distances, "TARGET_BYTES", 1)
    real.batch_size = 2
    passes = Counter(network)
    torch.testing.assert_close(target_distances(generated, torch.arange(6), real), together, atol=1e-5, rtol=0)
    assert passes.passes == 9 + 5 * 6
    kept = EmbeddedImages(network, pixels(6), held_bytes=2**30)
    passes.passes = 0
    target_distances(kept, torch.arange(6), real)
    assert passes.passes == 9 + 6


def test_some_of_the_images_in_any_order():
    features, targets = numbers(9, 20), numbers(3, 20, seed=1)
    some = torch.tensor([7, 0, 3])
    found = target_distances(FeatureRows(features), some, FeatureRows(targets))
    torch.testing.assert_close(found, squared_distances([features[some]], [targets]), rtol=1e-5, atol=0)
    assert target_distances(FeatureRows(features), some[:0], FeatureRows(targets)).shape == (0, 3)


@pytest.mark.parametrize("parts", [[11], [1] * 11, [4, 1, 6], [2, 9]])
def test_spread_is_the_mean_over_pairs(parts: list[int]):
    rows = [5 + numbers(11, 300), numbers(11, 200, seed=1) - 20]
    spread = Spread()
    for batch in zip(*(tap.split(parts) for tap in rows), strict=True):
        spread.add(list(batch))
    pairs = [(i, j) for i in range(11) for j in range(i)]
    exact = squared_distances(rows, rows)
    expected = sum(float(exact[i, j]) for i, j in pairs) / len(pairs)
    assert spread.mean_distance() == pytest.approx(expected, rel=1e-6)


def test_spread_of_equal_rows_is_nothing_and_of_one_undefined():
    spread = Spread()
    assert spread.mean_distance() != spread.mean_distance()
    spread.add([numbers(1, 400)])
    assert spread.mean_distance() != spread.mean_distance()
    for _ in range(3):
        spread.add([numbers(1, 400).expand(5, -1)])
    assert spread.mean_distance() < 1e-10


def test_rows_are_computed_once_while_there_is_room():
    network, every = LPIPSNetwork.random("alex"), torch.arange(12)
    expected = network.embed(from_pixels(pixels(12)))
    row_bytes = sum(tap[0].nbytes for tap in expected)
    passes = Counter(network)
    for room, again in ((12, 0), (8, 4), (7, 8), (0, 12)):  # four at a time
        images = EmbeddedImages(network, pixels(12), held_bytes=room * row_bytes)
        images.batch_size = 4
        for index in images.batches(every):
            images.rows(index)
        passes.passes = 0
        for index in images.batches(every.flip(0)):
            for tap, rows in zip(images.rows(index), expected, strict=True):
                torch.testing.assert_close(tap, rows[index], rtol=1e-4, atol=1e-6)
        assert passes.passes == again, room


def test_the_room_for_rows_is_half_of_what_a_gpu_has_free(monkeypatch: pytest.MonkeyPatch):
    gib = 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60 * gib, 80 * gib))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 18 * gib)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 8 * gib)
    assert held_bytes(torch.device("cuda")) == 35 * gib  # PyTorch gives back 10 of its 18
    assert held_bytes(torch.device("cpu")) == 2 * gib


def test_images_are_embedded_few_at_a_time_where_they_are_large():
    network = LPIPSNetwork.random("alex")
    sizes = {side: EmbeddedImages(network, torch.empty(0, 3, side, side)).batch_size for side in (32, 64, 256, 1024)}
    assert sizes == {32: 128, 64: 32, 256: 4, 1024: 4}
    assert EmbeddedImages(LPIPSNetwork.random("alex", resize=256), torch.empty(0, 3, 32, 32)).batch_size == 4
