"""The pairs whose conditions samples are drawn from, for metrics that compare samples with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from lightning.pytorch import LightningModule
from torch import Tensor

from tenshot.datamodules import ImageDataModule
from tenshot.datamodules.batches import CONDITION_IMAGE, Batch, Source
from tenshot.datamodules.conditions import Conditions
from tenshot.datamodules.pairs import ConditionKind, has_edge_detector, part_of_condition
from tenshot.lightning_modules import FolderGenerator
from tenshot.metrics.base import Need

__all__ = ["SamplePairs", "pairs_of"]


@dataclass(frozen=True)
class SamplePairs:
    """Sample i is drawn from pair i modulo how many there are.

    Args:
        source: Where they are.
        count: How many, the first ones of the source.
        kind: What the conditions show.
    """

    source: Source
    count: int
    kind: ConditionKind

    def read(self, numbers: Sequence[int]) -> Batch:
        """The pairs of these numbers."""
        return self.source.read(numbers)

    def parts(self, condition: Tensor) -> dict[Need, Tensor]:
        """The parts of condition images (N, C, S, S), by what metrics call them."""
        return {cast(Need, part): part_of_condition(condition, self.kind, part) for part in self.kind.parts}

    def needs_met(self, samples: int) -> list[Need]:
        """The needs of metrics that they meet, of so many samples."""
        met: list[Need] = ["pair", *(cast(Need, part) for part in self.kind.parts)]
        met += ["repeats"] if samples > self.count else []
        return met + (["edge_detector"] if has_edge_detector() else [])


def pairs_of(method: LightningModule, data: ImageDataModule, conditions: Conditions, named: bool) -> SamplePairs | None:
    """What a method draws from; None where that is no condition image.

    Args:
        method: It draws from condition images, or is a folder of samples that somebody drew from those of the data.
        data: With conditions.
        conditions: Of the samples.
        named: Whether metrics were named, so that such a folder is compared with the conditions of the data.
    """
    drawn = getattr(method, "condition_name", None) == CONDITION_IMAGE
    if data.condition_kind is None or not (drawn or (named and isinstance(method, FolderGenerator))):
        return None
    return SamplePairs(*conditions.pairs, data.condition_kind)
