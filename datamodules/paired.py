"""Paired: images with the masks, sketches, depth or normals that they are to be made from."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from tenshot.datamodules.base import ImageDataModule
from tenshot.datamodules.batches import CONDITION_IMAGE, Batch, Source
from tenshot.datamodules.choice import Listed, Record, first_by_name, held_out_by_name, part_of, recorded_rows
from tenshot.datamodules.pairs import (
    CHANNELS,
    PARTS,
    ConditionKind,
    ConditionReader,
    Kind,
    LabelMap,
    Masks,
    Pairs,
    PairsInMemory,
    PairSource,
    Place,
    check_some,
    find_pairs,
    first_palette,
    read_colours,
    require_edge_detector,
    turned_normals,
)
from tenshot.datamodules.pairs.sketches import SIDE
from tenshot.datamodules.reading import MOST_PIXELS
from tenshot.datamodules.refusals import Refusals
from tenshot.errors import InputError

__all__ = ["Paired"]

MOST_IN_MEMORY = 1000  # pairs


class Paired(ImageDataModule):
    """Images and what they are to be made from, matched by their names, or by a list (docs/pairs.md).

    Batches have the condition as "condition_image": uint8 (N, C, S, S), C of 3 for masks, depth and normals, 1 for
    sketches, 6 for geometry. Up to 1000 pairs are checked and decoded before training starts; of more some are checked.

    Args:
        root: Folder of the images, or archives of them, as for ImageFolder.
        condition: mask, sketch, depth, normals, or geometry, which is normals and depth.
        conditions: Folder or archives of the conditions; for geometry a list of two, normals and depth. Sketches are
            made from the images where it is not given; others then lie beside the images, see ``suffix``.
        suffix: What the name of a condition has after that of its image, before the ending: _seg in a_seg.png of
            a.jpg; for geometry a list of two.
        pairs: A text file that names the images to use, one a line, or images and conditions; or JSON lines. Names are
            relative to ``root`` and ``conditions`` where they are given, else to the folder of the file.
        image_size: Height and width of the images. The command line takes that of the network where it is not given.
        condition_size: Height and width of the conditions, S; that of the images by default.
        batch_size: Images a step on each device.
        shots: How many pairs to take, by a hash of the images' names with the seed; all by default.
        convention: How images are resized, and conditions likewise by the nearest pixel: ``piti`` squashes to a square;
            ``adm`` and ``cdc`` scale the short side and crop the centre of both.
        label_map: What the pixels of a mask are: ``indices``, numbers of classes in a grey or palette PNG, 255 for
            none; ``coco_stuff``, of COCO-Stuff's 182; ``ade20k``, 1 … 150 and 0 for none; ``ade20k_seg``, the colours
            of ADE20K's full release, as they are; ``colours``, a colour for each class.
        colours: A file with those colours, ``red green blue`` a line; PITI's palette by default.
        unlabelled: Id of the palette whose colour pixels without a class get: 0 is black, 183 is (128, 224, 192). By
            default 183; 1 for ``ade20k``; 0 for ``colours``.
        black_on_white: Sketches are dark lines on a bright ground.
        edge_sigma: Where sketches are made from the images, blur before Canny's edges, in 256ths of the side.
        val_fraction: Part of the pairs kept out of training for validation, by a hash of the images' names.
        val_root: Folder or archives of validation images.
        val_conditions: Of their conditions.
        val_pairs: A list of them.
        flip: Mirror each training image, with its condition, with probability one half.
        seed: Chooses the shots and the validation images, and decides order and mirroring.
        num_workers: Processes that decode and prepare batches.
        max_unusable: Of more than 1000 pairs, how many may be unusable; another takes the place of each.
        max_pixels: An image with more pixels than this is not decoded.

    Raises:
        InputError: An option is out of its range, or two exclude each other.
    """

    reader: ConditionReader

    def __init__(
        self,
        root: str | None = None,
        condition: Kind = "mask",
        conditions: str | list[str] | None = None,
        suffix: str | list[str] = "",
        pairs: str | None = None,
        image_size: int | None = None,
        condition_size: int | None = None,
        batch_size: int = 16,
        shots: int | None = None,
        convention: Literal["piti", "adm", "cdc"] = "piti",
        label_map: LabelMap = "indices",
        colours: str | None = None,
        unlabelled: int | None = None,
        black_on_white: bool = False,
        edge_sigma: float = 2.0,
        val_fraction: float = 0.0,
        val_root: str | None = None,
        val_conditions: str | list[str] | None = None,
        val_pairs: str | None = None,
        flip: bool = True,
        seed: int = 0,
        num_workers: int = 2,
        max_unusable: int = 100,
        max_pixels: int = MOST_PIXELS,
    ) -> None:
        super().__init__(batch_size, image_size, seed, flip, num_workers)
        condition_size = self.image_size if condition_size is None else condition_size
        for name, value, least in (
            ("condition_size", condition_size, 1),
            ("shots", 1 if shots is None else shots, 1),
            ("max_unusable", max_unusable, 0),
            ("max_pixels", max_pixels, 1),
        ):
            if value < least:
                raise InputError(f"--data.{name} is {value}: choose at least {least}")
        if not 0 <= edge_sigma <= SIDE:
            raise InputError(f"--data.edge_sigma is {edge_sigma}: choose 0 to {SIDE}")
        if not 0 <= val_fraction < 1:
            raise InputError(f"--data.val_fraction is {val_fraction}: choose a part of the pairs, 0 up to below 1")
        if val_fraction and (val_root is not None or val_pairs is not None):
            raise InputError("--data.val_fraction and other pairs for validation are both given: drop one")
        if colours is not None and label_map != "colours":
            raise InputError("--data.colours is for --data.label_map colours: set that, or drop the file")
        self.condition_size = condition_size
        self.condition = condition
        self.shots = shots
        self.val_fraction = val_fraction
        self.suffixes = suffixes = self._one_a_part("suffix", suffix) or [""] * len(PARTS[condition])
        given = self._one_a_part("conditions", conditions)
        self.place = Place(root, given, suffixes, pairs)
        self.val_place: Place | None = None
        if val_root is not None or val_pairs is not None:
            theirs = (
                given
                if val_root is None and val_conditions is None
                else self._one_a_part("val_conditions", val_conditions)
            )
            self.val_place = Place(root if val_root is None else val_root, theirs, suffixes, val_pairs, "val_")
        self.refusals = Refusals(max_unusable, "--data.max_unusable")
        masks = Masks(label_map, unlabelled, None if colours is None else read_colours(colours))
        self.reader = ConditionReader(
            condition, condition_size, convention, masks, black_on_white, edge_sigma, max_pixels
        )  # fmt: skip
        self._choices: tuple[tuple[Listed, list[int]], tuple[Listed, list[int]] | None]
        self._kept: Record | None = None

    def _one_a_part(self, option: str, given: str | list[str] | None) -> list[str]:
        """What an option says for each part of the condition; empty where it says nothing."""
        parts = PARTS[self.condition]
        values = [given] if isinstance(given, str) else list(given or [])
        values = [] if values == [""] else values
        if values and len(values) != len(parts):
            raise InputError(
                f"--data.{option} names {len(values)}, {self.condition} is of {', '.join(parts)}: give {len(parts)}"
            )
        return values

    @property
    def condition_channels(self) -> int:
        """Channels of "condition_image"."""
        return CHANNELS[self.condition]

    @property
    def condition_kind(self) -> ConditionKind:
        """What "condition_image" shows."""
        masks = self.reader.masks
        told = masks.classes, masks.num_classes, masks.unlabelled_class
        return ConditionKind(self.condition, *told, self.reader.edge_sigma)

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs there are for training, and those that are held out of it."""
        return find_pairs(self.place, PARTS[self.condition], can_be_made=self.condition == "sketch")

    @cached_property
    def val_pairs(self) -> Pairs | None:
        """The pairs for validation, of a place of their own."""
        if self.val_place is None:
            return None
        made = not self.pairs.conditions
        return find_pairs(self.val_place, PARTS[self.condition], can_be_made=made)

    def prepare_data(self) -> None:
        """On the first rank of each node: list the files, where that was not done before. The others wait."""
        _ = self.pairs, self.val_pairs

    def setup(self, stage: str | None = None) -> None:
        """Open the sources, and make sure that all ranks found the same pairs.

        Raises:
            InputError: the pairs differ between nodes, or changed while the run was starting.
        """
        super().setup(stage)
        found = [pairs.digest for pairs in (self.pairs, self.val_pairs) if pairs]
        self.require_same_on_all_ranks(stage, found, self.pairs.title)

    def sources(self) -> tuple[Source, Source | None]:
        """The training pairs, in memory if they are few, and the validation pairs.

        Raises:
            InputError: There are no pairs or too few, or one of those that are checked cannot be used.
        """
        pairs, record = self.pairs, self._in_force(self._request())
        if not pairs.conditions:
            require_edge_detector()
        elif self.condition == "mask":
            self.reader = replace(self.reader, masks=replace(self.reader.masks, palette=first_palette(pairs)))
        listed = pairs.listed()
        train = recorded_rows(record["train"], listed) if record else None
        val_listed = listed if self.val_pairs is None else self.val_pairs.listed()
        validates = self.val_pairs is not None or self.val_fraction > 0
        val = recorded_rows(record["val"], val_listed) if validates and record and record["val"] else None
        self._kept = record if train is not None and (val is not None or not validates) else None
        if validates and val is None:
            val = list(range(val_listed.count)) if self.val_pairs is not None else self._held_out(pairs)
        if train is None:
            train = self._shots(pairs, val if val is not None and self.val_pairs is None else [])
        self._choices = (listed, train), None if val is None else (val_listed, val)
        title = f"{len(train)} of {len(pairs)} pairs in {pairs.title}"
        source = PairSource(
            pairs, train, self.image_size, self.reader, f"{title}, {self._described(pairs)}", self.refusals
        )
        if val is not None:
            held = pairs if self.val_pairs is None else self.val_pairs
            title = f"{len(val)} pairs in {held.title}"
            val_source = PairSource(held, val, self.image_size, self.reader, title, self.refusals)
        return _opened(source), None if val is None else _opened(val_source)

    @property
    def chooses(self) -> bool:
        """Whether the rule decides."""
        return self.shots is not None or self.val_fraction > 0

    def data_record(self) -> Record:
        """The pairs of training and validation, by the names of the images and the content of all files."""
        self.setup()
        if self._kept is None:
            train, val = self._choices
            about = {"class": type(self).__name__, "rule": self.rule, "request": self._request()}
            if self.reader.masks.palette:
                about["palette"] = {str(index): list(colour) for index, colour in self.reader.masks.palette.items()}
            self._kept = about | {"train": part_of(*train), "val": part_of(*val) if val else None}
        return self._kept

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> dict[str, Any]:
        """Also turn the normals of a mirrored pair round: right becomes left."""
        flip = batch.get("flip")
        ready = super().on_after_batch_transfer(batch, dataloader_idx)
        if flip is not None and "normals" in PARTS[self.condition]:
            ready["condition"][CONDITION_IMAGE] = turned_normals(ready["condition"][CONDITION_IMAGE], flip)
        return ready

    def _request(self) -> Record:
        return {"shots": self.shots, "val_fraction": self.val_fraction, "seed": self.seed}

    def _described(self, pairs: Pairs) -> str:
        made = "" if pairs.conditions else " made from the images"
        return f"{self.condition}{made} of {self.condition_size} x {self.condition_size}"

    def _held_out(self, pairs: Pairs) -> list[int]:
        return np.flatnonzero(held_out_by_name(pairs.names(), self.seed, self.val_fraction)).tolist()

    def _shots(self, pairs: Pairs, held_out: Sequence[int]) -> list[int]:
        """Which pairs to train on: all that are not held out, or so many of them."""
        left = np.setdiff1d(np.arange(len(pairs)), held_out)
        if not len(left):
            raise InputError(
                f"--data.val_fraction {self.val_fraction} leaves no pair of {pairs.title} for training: lower it"
            )
        if self.shots is None:
            if len(left) == 1:
                raise InputError(
                    f"{pairs.title} holds a single pair ({pairs.name(int(left[0]))}): add pairs, or set --data.shots 1 "
                    "to train on it alone"
                )
            return [int(row) for row in left]
        if self.shots > len(left):
            raise InputError(
                f"--data.shots is {self.shots}, but {pairs.title} holds {len(left)} pairs for training: add pairs or "
                f"set --data.shots to at most {len(left)}"
            )
        chosen = first_by_name([pairs.name(int(row)) for row in left], self.seed, self.shots)
        return [int(row) for row in left[chosen]]


def _opened(source: PairSource) -> Source:
    """In memory where the pairs are few; of many, some are looked at."""
    if len(source) <= MOST_IN_MEMORY:
        return PairsInMemory(source)
    check_some(source)
    return source
