"""SyntheticFaces: the data set that Tenshot draws itself, so that everything runs where nothing can be downloaded."""

from typing import Any, cast

import numpy as np
import torch

from tenshot.datamodules.base import ImageDataModule
from tenshot.datamodules.batches import CONDITION_IMAGE, Batch, Source
from tenshot.datamodules.faces import CONDITIONS, DOMAINS, NUM_LABELS, FacesSource
from tenshot.datamodules.faces.counter import hash_keys
from tenshot.datamodules.faces.parts import REGIONS
from tenshot.datamodules.pairs import CHANNELS, KINDS, PARTS, ConditionKind, ConditionReader, Kind, turned_normals
from tenshot.errors import InputError, did_you_mean

__all__ = ["SyntheticFaces"]

_SMALLEST = 16


class SyntheticFaces(ImageDataModule):
    """Cartoon heads of varied skin, hair, pose and background, drawn on demand in five domains.

    Image i of a seed shows the same head in every domain. Training uses the images 0 ... num_images - 1, validation
    the num_val after them. Give source and target different seeds for an adaptation to people never seen in the source.

    Args:
        domain: faces, sunglasses, babies, sketches or paintings.
        image_size: Height and width of the images, at least 16.
        batch_size: Images a step on each device.
        num_images: Size of the training set.
        shots: How many of them, drawn by the seed, to train on instead of all.
        num_val: Size of the validation set; 0 for none.
        labels: Give each image its class, one of 9: hair (short, medium, long) by mouth (sad, neutral, smiling).
        condition: Give each image what it can be made from: mask (classes of its parts), sketch (contours), depth or
            normal (relief); null for nothing.
        pairs: Give each image, as ``Paired`` does of files, its mask, sketch, depth, normals or geometry (normals and
            depth) as "condition_image"; null for nothing.
        condition_size: Height and width of that; those of the image by default.
        flip: Mirror each training image, with its condition, with probability one half.
        seed: Decides what the images show, which are the shots, and their order and mirroring in training.
        num_workers: Processes that draw images and prepare batches; 0 does so in the training process.

    Raises:
        InputError: a name is not one of those above, or a number is out of its range.
    """

    def __init__(
        self,
        domain: str = "faces",
        image_size: int = 32,
        batch_size: int = 32,
        num_images: int = 10000,
        shots: int | None = None,
        num_val: int = 512,
        labels: bool = False,
        condition: str | None = None,
        pairs: str | None = None,
        condition_size: int | None = None,
        flip: bool = True,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, image_size, seed, flip, num_workers)
        _check_name("domain", domain, DOMAINS)
        if condition is not None:
            _check_name("condition", condition, CONDITIONS)
        if pairs is not None:
            _check_name("pairs", pairs, KINDS)
        condition_size = self.image_size if condition_size is None else condition_size
        for name, value, least in (
            ("image_size", image_size, _SMALLEST),
            ("condition_size", condition_size, _SMALLEST),
            ("num_images", num_images, 1),
            ("num_val", num_val, 0),
        ):
            if value < least:
                raise InputError(f"--data.{name} is {value}: choose at least {least}")
        if shots is not None and not 1 <= shots <= num_images:
            raise InputError(f"--data.shots is {shots}: choose 1 to {num_images} (--data.num_images)")
        self.domain = domain
        self.num_images = num_images
        self.shots = shots
        self.num_val = num_val
        self.labels = labels
        self.condition = condition
        self.pairs = pairs
        self.condition_size = condition_size
        self.reader = None if pairs is None else ConditionReader(cast(Kind, pairs), condition_size)

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None without labels."""
        return NUM_LABELS if self.labels else None

    @property
    def condition_channels(self) -> int | None:
        """Channels of "condition_image"; None without pairs."""
        return CHANNELS.get(self.pairs or "")

    @property
    def condition_kind(self) -> ConditionKind | None:
        """What "condition_image" shows; None without pairs."""
        name = next((kind for kind in KINDS if kind == self.pairs), None)
        return None if name is None else ConditionKind(name, f"regions of a face: {', '.join(REGIONS)}", len(REGIONS))

    def sources(self) -> tuple[Source, Source | None]:
        """The training images, or the shots among them, and the validation images."""
        val = self._source(range(self.num_images, self.num_images + self.num_val)) if self.num_val else None
        return self._source(range(self.num_images) if self.shots is None else self._drawn(self.shots)), val

    def reference(self, count: int, start: int | None = None) -> FacesSource:
        """The images ``start`` ... ``start + count - 1`` of this domain and seed: a sample of the true distribution.

        By default they are the first that neither training nor validation uses.
        """
        first = self.num_images + self.num_val if start is None else start
        return self._source(range(first, first + count))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> dict[str, Any]:
        """Also turn the normals of a mirrored image round: right becomes left."""
        flip = batch.get("flip")
        ready = super().on_after_batch_transfer(batch, dataloader_idx)
        if self.condition == "normal" and flip is not None:
            normals = ready["condition"]["normal"]
            turned = torch.where(flip.view(-1, 1, 1, 1), -normals[:, :1], normals[:, :1])
            ready["condition"]["normal"] = torch.cat([turned, normals[:, 1:]], dim=1)
        if flip is not None and "normals" in PARTS.get(self.pairs or "", ()):
            ready["condition"][CONDITION_IMAGE] = turned_normals(ready["condition"][CONDITION_IMAGE], flip)
        return ready

    def _source(self, indices: range | list[int]) -> FacesSource:
        return FacesSource(
            self.domain, self.seed, indices, self.image_size, self.labels, self.condition, self.pairs,
            self.condition_size,
        )  # fmt: skip

    def _drawn(self, shots: int) -> list[int]:
        """``shots`` of the training images, sorted; fewer shots of the same seed are a subset of more."""
        order = np.argsort(hash_keys(self.seed, torch.arange(self.num_images), "shots"), kind="stable")
        return sorted(order[:shots].tolist())


def _check_name(option: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise InputError(
            f"--data.{option} {name!r} does not exist{did_you_mean(name, known)}: choose one of {', '.join(known)}"
        )
