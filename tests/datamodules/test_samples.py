from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule, Trainer

from tenshot.datamodules import Samples
from tenshot.errors import InputError


def wanted(module: Samples, rank: int = 0, world_size: int = 1) -> list[tuple[int, int]]:
    """(index, seed) of every sample of this rank, in order."""
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)
    batches = list(module.predict_dataloader())
    assert len(module.predict_dataloader()) - len(batches) in ((0,) if rank == 0 else (0, 1))  # rank 0 is the busiest
    assert all(len(batch["index"]) <= module.batch_size for batch in batches)
    return [pair for b in batches for pair in zip(b["index"].tolist(), b["seed"].tolist(), strict=True)]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_neither_batches_nor_ranks_change_what_a_sample_is(batch_size: int, world_size: int):
    shares = [wanted(Samples(20, batch_size, seed=3), rank, world_size) for rank in range(world_size)]
    assert sorted(pair for share in shares for pair in share) == [(index, 3 * 2**32 + index) for index in range(20)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_smaller_set_is_the_beginning_of_a_larger_one():
    assert wanted(Samples(5)) == wanted(Samples(9))[:5]


def test_what_is_there_already_is_left_out():
    shares = [wanted(Samples(10, 2, skip=[0, 1, 2, 5, 77]), rank, 2) for rank in range(2)]
    assert [index for index, _ in shares[0]] == [3, 6, 8]  # the work left is what is shared evenly
    assert [index for index, _ in shares[1]] == [4, 7, 9]
    assert wanted(Samples(2, skip=range(2))) == []


def test_the_ends_of_the_range_fit_into_int64():
    module = Samples(2**32, seed=2**31 - 1, skip=())
    assert module.seed * 2**32 + module.count - 1 == 2**63 - 1
    (batch,) = Samples(1, seed=2**31 - 1).test_dataloader()
    assert batch["seed"].tolist() == [(2**31 - 1) * 2**32]
    assert batch["seed"].dtype == batch["index"].dtype == torch.int64


@pytest.mark.parametrize(
    ("option", "value"), [("count", 0), ("count", 2**32 + 1), ("batch_size", 0), ("seed", -1), ("seed", 2**31)]
)
def test_numbers_out_of_range_are_refused(option: str, value: int):
    with pytest.raises(InputError, match=rf"--data\.{option} is {value}: choose one of") as caught:
        Samples(**({"count": 1} | {option: value}))
    assert "\n" not in str(caught.value)


class Echo(LightningModule):
    def predict_step(self, batch: dict[str, torch.Tensor]) -> list[int]:
        return batch["seed"].tolist()

    def test_step(self, batch: dict[str, torch.Tensor]) -> None:
        self.log("last", batch["index"].float().max(), reduce_fx="max")


def test_the_trainer_predicts_and_tests_each_sample_once(tmp_path: Path):
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    predicted = trainer.predict(Echo(), Samples(7, batch_size=3))
    assert predicted == [[0, 1, 2], [3, 4, 5], [6]]
    assert trainer.test(Echo(), Samples(7, batch_size=3), verbose=False) == [{"last": 6.0}]


def test_the_command_line_can_build_it():
    parser = ArgumentParser()
    parser.add_subclass_arguments(Samples, "data")
    arguments = [f"--data={Samples.__module__}.Samples", "--data.count=4", "--data.skip=[1]"]
    assert [index for index, _ in wanted(parser.instantiate(parser.parse_args(arguments)).data)] == [0, 2, 3]
