"""Pairs for tests: of drawn faces, and what all of a data module's pairs are."""

from pathlib import Path
from typing import Any

import torch

from tenshot.datamodules import Paired, SyntheticFaces

COUNT = 12


def drawn(**options: Any) -> dict[str, torch.Tensor]:
    """All the faces."""
    return SyntheticFaces(image_size=32, num_images=COUNT, **options).train_source.read(range(COUNT))


def pairs_of(faces: Path, **options: Any) -> Paired:
    given: dict[str, Any] = {"conditions": str(faces / "mask"), "image_size": 32, "num_workers": 0, "batch_size": 4}
    return Paired(str(faces / "image"), **(given | options))


def everything(module: Paired) -> dict[str, torch.Tensor]:
    module.setup("fit")
    return module.train_source.read(range(len(module.train_source)))
