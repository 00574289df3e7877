from collections.abc import Sequence
from itertools import islice

import pytest
import torch
from torch import Tensor

from tenshot.datamodules.batches import Batch, EachOnce, EachOnceLoader, EndlessBatches, EndlessLoader
from tenshot.errors import InputError


class Numbers:
    """Image i is i everywhere; image ``broken`` cannot be read."""

    def __init__(self, count: int, broken: int | None = None) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> Batch:
        if self.broken in indices:
            raise InputError(f"number {self.broken} is broken: mend it")
        return {"image": torch.tensor(list(indices), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)}


def numbers(batch: Batch) -> list[int]:
    return batch["image"][:, 0, 0, 0].tolist()


def drawn(stream: EndlessBatches, batches: int) -> list[tuple[int, bool]]:
    """(image, mirrored) of the first batches, joined."""
    return [
        pair for batch in islice(stream, batches) for pair in zip(numbers(batch), batch["flip"].tolist(), strict=True)
    ]


def test_the_stream_is_one_permutation_after_another():
    stream = [number for number, _ in drawn(EndlessBatches(Numbers(7), 4, seed=1, flip=True), 21)]
    epochs = [tuple(stream[start : start + 7]) for start in range(0, len(stream), 7)]
    assert len(epochs) == 12
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(epochs)) == 12  # 7! orders: a repeat would mean that they are not drawn anew


@pytest.mark.parametrize("images", [1, 3, 10])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_see_together_what_one_rank_with_the_joint_batch_sees(images: int, world_size: int):
    alone = EndlessBatches(Numbers(images), 5 * world_size, seed=3, flip=True)
    ranks = [EndlessBatches(Numbers(images), 5, 3, True, rank, world_size) for rank in range(world_size)]
    for joint, *parts in islice(zip(alone, *ranks, strict=False), 6):
        for key in ("image", "flip"):
            torch.testing.assert_close(torch.cat([part[key] for part in parts]), joint[key])


@pytest.mark.parametrize("start", [1, 5, 40])
def test_starting_late_is_the_same_as_having_gone_on(start: int):
    whole = drawn(EndlessBatches(Numbers(7), 3, 0, True, rank=1, world_size=2), start + 4)
    late = drawn(EndlessBatches(Numbers(7), 3, 0, True, rank=1, world_size=2, start=start), 4)
    assert late == whole[3 * start :]


def test_the_seed_decides_order_and_mirroring():
    def run(seed: int) -> list[tuple[int, bool]]:
        return drawn(EndlessBatches(Numbers(9), 9, seed, True), 4)

    assert run(0) == run(0)
    assert [number for number, _ in run(0)] != [number for number, _ in run(1)]
    assert [mirrored for _, mirrored in run(0)] != [mirrored for _, mirrored in run(1)]


def test_half_of_the_appearances_of_each_image_are_mirrored():
    seen = drawn(EndlessBatches(Numbers(2), 50, 0, True), 40)
    for image in range(2):
        mirrored = [flip for number, flip in seen if number == image]
        assert len(mirrored) == 1000
        assert abs(sum(mirrored) - 500) < 80  # five standard deviations


def test_without_flipping_there_is_no_flip():
    assert set(next(iter(EndlessBatches(Numbers(2), 2, 0, False)))) == {"image"}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_order(workers: int):
    def run(num_workers: int) -> list[Tensor]:
        loader = EndlessLoader(lambda: EndlessBatches(Numbers(5), 3, 0, True, start=2), num_workers)
        return [torch.cat([b["image"][:, 0, 0, 0], b["flip"]]) for b in islice(loader, 7)]

    torch.testing.assert_close(run(workers), run(0))


def test_a_loader_begins_each_time_where_it_is_told_to():
    position = 0
    loader = EndlessLoader(lambda: EndlessBatches(Numbers(5), 3, 0, False, start=position), 0)
    first = [numbers(batch) for batch in islice(loader, 3)]
    position = 2
    assert numbers(next(iter(loader))) == first[2]


@pytest.mark.parametrize(("images", "world_size"), [(10, 1), (10, 3), (2, 3), (12, 2)])
def test_validation_takes_each_image_once(images: int, world_size: int):
    ranks = [EachOnce(Numbers(images), 2, rank, world_size) for rank in range(world_size)]
    assert sorted(n for rank in ranks for batch in rank for n in numbers(batch)) == list(range(images))
    assert [len(list(rank)) for rank in ranks] == [len(rank) for rank in ranks]
    shares = [sum(len(numbers(batch)) for batch in rank) for rank in ranks]
    assert max(shares) - min(shares) <= 1


def test_validation_workers_keep_the_order_and_serve_again():
    loader = EachOnceLoader(EachOnce(Numbers(7), 2), num_workers=2)
    for _ in range(2):
        assert [numbers(batch) for batch in loader] == [[0, 1], [2, 3], [4, 5], [6]]
    assert len(loader) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_an_input_error_stays_one_line_through_the_workers(workers: int):
    batches = EndlessLoader(lambda: EndlessBatches(Numbers(9, broken=4), 2, 0, False), workers)
    with pytest.raises(InputError) as caught:
        list(islice(batches, 9))
    assert str(caught.value) == "number 4 is broken: mend it"
    good = list(islice(EndlessBatches(Numbers(9), 2, 0, False), 9))
    before = next(i for i, batch in enumerate(good) if 4 in numbers(batch))
    assert [numbers(b) for b in islice(batches, before)] == [numbers(b) for b in good[:before]]


@pytest.mark.parametrize("workers", [0, 2])
def test_iterating_leaves_the_global_generator_alone(workers: int):
    before = torch.get_rng_state()
    next(iter(EndlessLoader(lambda: EndlessBatches(Numbers(3), 2, 0, True), workers)))
    list(EachOnceLoader(EachOnce(Numbers(3), 2), workers))
    assert torch.equal(torch.get_rng_state(), before)
