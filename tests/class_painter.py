"""A method whose images say of which class and which sample they are, true images that say their number, and a metric
that reads all of it: whether image, condition and true image of a sample come together can be counted."""

from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.batches import Batch, Source
from tenshot.metrics import ImageMetric, Report

CLASSES, SIDE = 5, 16
BY_SEED = 7
"""Painted where no class is given."""


class ClassPainter(LightningModule):
    """Its images have the level 10 * label in the first channel, that of the sample's number in the second."""

    averaged: tuple[str, ...] = ()
    num_classes = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def sample(self, seeds: Tensor, condition: Mapping[str, Tensor] | None = None, preview: bool = False) -> Tensor:
        label = torch.full_like(seeds, BY_SEED) if condition is None else condition["label"]
        levels = torch.stack([10 * label, seeds % 2**32, torch.zeros_like(seeds)], dim=1) / 127.5 - 1
        return levels[:, :, None, None].expand(-1, -1, SIDE, SIDE)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.sample(batch["seed"], batch.get("condition"))  # type: ignore[arg-type]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Truth:
    """The true image of sample i has the level i."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int]) -> Batch:
        return {"image": torch.tensor(indices, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, SIDE, SIDE)}


class PairedFaces(SyntheticFaces):
    """Faces, with such true images."""

    paired = 20

    @property
    def truth(self) -> Source | None:
        return Truth(self.paired)


class Together(ImageMetric):
    """For each sample what its image, its condition and its true image say, sorted by number."""

    needs = ("condition", "truth")
    more_is_better = (True, None)

    def __init__(self) -> None:
        super().__init__()
        self.add_rows("seen")

    def update(self, images: Tensor, real: Tensor, condition: Mapping[str, Tensor]) -> None:
        levels = [images[:, 0, 0, 0] / 10, images[:, 1, 0, 0], condition["label"], real[:, 0, 0, 0]]
        self.append("seen", torch.stack([part.double() for part in levels], dim=1))

    def names(self) -> tuple[str, ...]:
        return "together", "labels"

    def evaluate(self) -> Report:
        seen = self.rows("seen")
        assert seen is not None
        together = ((seen[:, 0] == seen[:, 2]) & (seen[:, 1] == seen[:, 3])).double().sum()
        rows = seen[seen[:, 1].argsort()].tolist()
        return Report({"together": float(together), "labels": float(len(seen[:, 2].unique()))}, {}, {"seen": rows})
