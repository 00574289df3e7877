"""Two gloo processes under Lightning's DDP: the shares are ours, and one without work does no harm.

Run by ``run_ranks``, this file is the script of one rank.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from ranks import run_ranks
from torch import Tensor

from tenshot.datamodules import ImageDataModule, Samples
from tenshot.datamodules.batches import Batch, EndlessBatches, Source


class Numbers:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> Batch:
        return {"image": torch.zeros(len(indices), 3, 2, 2, dtype=torch.uint8), "label": torch.tensor(list(indices))}


class NumberImages(ImageDataModule):
    def __init__(self) -> None:
        super().__init__(batch_size=3, image_size=2, seed=0, flip=True, num_workers=0)

    def sources(self) -> tuple[Source, Source | None]:
        return Numbers(7), Numbers(9)


class Recorder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: dict[str, list[int]] = {"train": [], "val": [], "ranks at the end": []}

    def training_step(self, batch: dict[str, Any]) -> Tensor:
        self.seen["train"] += batch["condition"]["label"].tolist()
        return (self.weight * batch["image"]).sum()

    def validation_step(self, batch: dict[str, Any]) -> None:
        self.seen["val"] += batch["condition"]["label"].tolist()

    def predict_step(self, batch: Batch) -> list[int]:
        return batch["index"].tolist()

    def on_predict_epoch_end(self) -> None:
        self.seen["ranks at the end"].append(int(self.all_gather(torch.ones(1)).sum()))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def one_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_steps=4,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    module = Recorder()
    trainer.fit(module, NumberImages())
    predicted = trainer.predict(module, Samples(8, batch_size=2, skip=[3]))
    alone = trainer.predict(module, Samples(1))
    seen = module.seen | {"predict": sum(predicted, []), "alone": sum(alone, [])}  # noqa: RUF017
    (folder / f"{trainer.global_rank}.json").write_text(json.dumps(seen))


def test_two_processes_share_the_work_without_repeating_it(tmp_path: Path):
    run_ranks(__file__, tmp_path, timeout=200)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]

    stream = iter(EndlessBatches(Numbers(7), batch_size=6, seed=0, flip=True))
    for step in range(4):
        together = [label for rank in ranks for label in rank["train"][3 * step : 3 * step + 3]]
        assert together == next(stream)["label"].tolist()
    assert [rank["val"] for rank in ranks] == [[0, 2, 4, 6, 8], [1, 3, 5, 7]]
    assert [rank["predict"] for rank in ranks] == [[0, 2, 5, 7], [1, 4, 6]]
    assert [rank["alone"] for rank in ranks] == [[0], []]
    assert [rank["ranks at the end"] for rank in ranks] == [[2, 2], [2, 2]]


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]))
