"""Drawn faces as a source of images: drawn when first asked for, kept where they are few."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.datamodules.faces.attributes import FaceAttributes, face_attributes, face_labels
from tenshot.datamodules.faces.conditions import condition_image, render_condition
from tenshot.datamodules.faces.domains import render

__all__ = ["FacesSource"]

_KEPT_BYTES = 512 * 2**20  # larger sets are drawn anew each time


class FacesSource:
    """Images of a domain by number; see ``Source`` of datamodules.batches.

    Args:
        domain: One of DOMAINS.
        seed: Decides, with the index of an image, all that is in it.
        indices: The index of each image of this source.
        image_size: Height and width.
        labels: Give "label", the class by hair length and mouth, 0 ... NUM_LABELS - 1.
        condition: Give one of CONDITIONS, under its name; None for none.
        pairs: Give a condition of this kind as "condition_image", as ``Paired`` does of files; None for none.
        condition_size: Height and width of that; those of the image by default.
    """

    def __init__(
        self,
        domain: str,
        seed: int,
        indices: Sequence[int],
        image_size: int,
        labels: bool = False,
        condition: str | None = None,
        pairs: str | None = None,
        condition_size: int | None = None,
    ) -> None:
        self.domain = domain
        self.seed = seed
        self.indices = indices
        self.image_size = image_size
        self.labels = labels
        self.condition = condition
        self.pairs = pairs
        self.condition_size = image_size if condition_size is None else condition_size
        self._kept: dict[str, Tensor] = {}
        self._is_kept = torch.zeros(len(indices), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.indices)

    def __str__(self) -> str:
        return f"{len(self)} drawn {self.domain}"

    def read(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The images of these numbers, in this order: "image" uint8 (N, 3, H, W), "label", conditions."""
        rows = torch.tensor(indices, dtype=torch.int64)
        missing = rows[~self._is_kept[rows]].unique()
        if len(missing):
            drawn = self._draw(missing)
            if not self._kept:
                if sum(value[0].nbytes for value in drawn.values()) * len(self) > _KEPT_BYTES:
                    places = torch.searchsorted(missing, rows)
                    return {name: value[places] for name, value in drawn.items()}
                self._kept = {name: value.new_zeros(len(self), *value.shape[1:]) for name, value in drawn.items()}
            for name, value in drawn.items():
                self._kept[name][missing] = value
            self._is_kept[missing] = True
        return {name: value[rows] for name, value in self._kept.items()}

    def attributes(self, indices: Sequence[int]) -> FaceAttributes:
        """What is in the images of these numbers."""
        return face_attributes(self.seed, torch.tensor([self.indices[i] for i in indices], dtype=torch.int64))

    def class_numbers(self) -> Tensor | None:
        """The class of every image: int64 (N,); None without labels."""
        return face_labels(self.attributes(range(len(self)))) if self.labels else None

    def _draw(self, rows: Tensor) -> dict[str, Tensor]:
        attributes = self.attributes(rows.tolist())
        drawn = {"image": render(self.domain, attributes, self.image_size)}
        if self.labels:
            drawn["label"] = face_labels(attributes)
        if self.condition:
            drawn[self.condition] = render_condition(self.condition, self.domain, attributes, self.image_size)
        if self.pairs:
            drawn[CONDITION_IMAGE] = condition_image(self.pairs, self.domain, attributes, self.condition_size)
        return drawn
