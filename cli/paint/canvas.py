"""What is drawn on the page: cells, each with an id of the palette or with a line, and the condition that they are."""

import base64
import io
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tenshot.datamodules import Paired, SyntheticFaces
from tenshot.datamodules.batches import CONDITION_IMAGE, Source
from tenshot.datamodules.conventions import FITTING, nearest
from tenshot.datamodules.faces import REGIONS
from tenshot.datamodules.pairs import (
    CHANNELS,
    ConditionReader,
    class_colours,
    colours_of,
    distance_map,
    ids_of,
    require_edge_detector,
    snapped,
)
from tenshot.datamodules.pairs.sketches import BRIGHT, edges_of
from tenshot.datamodules.reading import ImageError, opened
from tenshot.errors import InputError
from tenshot.lightning_modules.cascade_conditions import condition_config

__all__ = ["Canvas", "Drawable", "canvas_for", "read_names"]

Drawable = Literal["mask", "sketch"]
COUNTED = 64
"""Examples at most, whose classes are the palette."""


@dataclass(frozen=True)
class Canvas:
    """A square of S x S cells: of a mask ids of the palette, 0 … 255; of a sketch 1 on a line and 0 elsewhere.

    Args:
        reader: Reads files as training did; its kind is mask or sketch, its size S.
        examples: Pairs to begin a drawing with.
        classes: Ids of the palette with their names, in the order of the page.
        ground: What an empty canvas is filled with.
        photos: Whether sketches were made from photographs.
    """

    reader: ConditionReader
    examples: Source | None = None
    classes: dict[int, str] = field(default_factory=dict)
    ground: int = 0
    photos: bool = False
    _reading: Lock = field(default_factory=Lock, compare=False)

    @property
    def size(self) -> int:
        """S."""
        return self.reader.size

    @property
    def kind(self) -> str:
        """``mask`` or ``sketch``."""
        return self.reader.kind

    def about(self) -> dict[str, Any]:
        """What the page has to know, as JSON takes it."""
        table = class_colours().tolist()
        return {
            "kind": self.kind,
            "size": self.size,
            "examples": 0 if self.examples is None else len(self.examples),
            "classes": [{"id": number, "name": name, "colour": table[number]} for number, name in self.classes.items()],
            "palette": table if self.kind == "mask" else [[255, 255, 255], [0, 0, 0]],
            "ground": self.ground,
            "photos": self.photos,
        }

    def condition(self, cells: bytes) -> Tensor:
        """What the network is told: uint8 (C, S, S), as the data give it in training.

        Raises:
            InputError: They are not so many cells, or a sketch without lines.
        """
        grid = self._grid(cells)
        if self.kind == "mask":
            return colours_of(grid)
        if not grid.any():
            raise InputError("the sketch has no line, which means no condition: draw some")
        return distance_map(grid > 0)[None]

    def png(self, cells: bytes) -> str:
        """The drawing as a PNG in base64: a mask in the colours of the palette, a sketch in black on white.

        Raises:
            InputError: They are not so many cells.
        """
        grid = self._grid(cells)
        shown = colours_of(grid).permute(1, 2, 0) if self.kind == "mask" else torch.where(grid > 0, 0, 255).byte()
        return _png(shown.numpy())

    def _grid(self, cells: bytes) -> Tensor:
        if len(cells) != self.size**2:
            raise InputError(f"the drawing has {len(cells)} cells, not {self.size} x {self.size}: reload the page")
        return torch.frombuffer(bytearray(cells), dtype=torch.uint8).view(self.size, self.size)

    def cells(self, condition: Tensor) -> np.ndarray:
        """The reverse: uint8 (C, S, S)  ->  uint8 (S, S). Lines of sketches of 512 px and more come back thicker.

        Raises:
            InputError: A mask has colours that are not the palette's.
        """
        if self.kind == "sketch":
            return (condition[0] == 0).to(torch.uint8).numpy()
        ids = ids_of(condition)
        if (ids < 0).any():
            raise InputError("the mask has colours that are not the palette's: choose another example")
        return ids.to(torch.uint8).numpy()

    def example(self, number: int) -> dict[str, Any]:
        """The cells of a pair, and its image as a PNG, both in base64.

        Raises:
            InputError: There is no such pair, or it cannot be used.
        """
        if self.examples is None or not 0 <= number < len(self.examples):
            raise InputError(f"there is no example {number}: choose one of 0 … {len(self.examples or []) - 1}")
        with self._reading, torch.inference_mode():  # one at a time; the source may keep what it drew in that mode
            pair = self.examples.read([number])
        shown = _png(pair["image"][0].permute(1, 2, 0).numpy())
        return _told(self.cells(pair[CONDITION_IMAGE][0])) | {"image": shown}

    def opened(self, data: bytes, title: str, photo: bool) -> dict[str, Any]:
        """The cells that a file shows, with a note where something was decided.

        A mask is read as those of training or, where it is none of them, in the colours of the page, pixels between
        two classes as one of the two; of a sketch the rarer of dark and bright is the lines.

        Args:
            data: The file.
            title: Its name.
            photo: Take the edges that it shows for a sketch.

        Raises:
            InputError: It cannot be used.
        """
        if self.kind == "mask":
            return self._mask(data, title)
        image = opened(data, title, self.reader.max_pixels)
        if photo:
            require_edge_detector()
            pixels = FITTING[self.reader.convention](image, self.size)
            return _told(edges_of(pixels, self.reader.edge_sigma, title).to(torch.uint8).numpy())
        bright = np.asarray(image.convert("L")) >= BRIGHT
        lines = bright if bright.mean() <= 0.5 else ~bright
        small = np.array(nearest(Image.fromarray(lines), self.size, self.reader.convention), dtype=np.uint8)
        if not small.any():
            raise ImageError(f"{title} has no line at {self.size} x {self.size} pixels: draw thicker ones", "sketch")
        return _told(small)

    def _mask(self, data: bytes, title: str) -> dict[str, Any]:
        try:
            return _told(self.cells(self.reader.decoded([data], [title])[0]))
        except ImageError as error:
            if error.kind != "mask":
                raise
            refusal = error
        known = torch.tensor(sorted(self.classes))
        pixels = np.asarray(opened(data, title, self.reader.max_pixels))
        try:
            classes, blended = snapped(pixels, class_colours()[known].numpy(), title)
        except ImageError:
            raise refusal from None  # it says more
        ids = Image.fromarray(known.numpy().astype(np.uint8)[classes])
        small = np.array(nearest(ids, self.size, self.reader.convention))
        note = f"{blended} pixels of colours between classes were given the class beside them" if blended else ""
        return _told(small) | {"note": note}


def _told(cells: np.ndarray) -> dict[str, Any]:
    return {"cells": base64.b64encode(cells.tobytes()).decode(), "note": ""}


def _png(pixels: np.ndarray) -> str:
    """uint8 (H, W, 3) or (H, W) as a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def canvas_for(method: object, data: object, kind: Drawable | None, names: dict[int, str]) -> Canvas:
    """What is to be drawn for a method that draws from condition images.

    Args:
        method: With its network built.
        data: That of the run; its validation pairs, or else those of training, are the examples.
        kind: What conditions are; none: what the data say. Where it is given the data are not used.
        names: Of classes, by their ids.

    Raises:
        InputError: It draws from none, or from what cannot be drawn by hand; or nothing tells the classes.
    """
    config, base = condition_config(method), getattr(method, "generators", [method])[0]
    if config is None or getattr(base, "condition_name", None) is None:
        raise InputError(
            f"tenshot paint draws masks or sketches for a method that draws from them, such as PITI: this "
            f"{type(method).__name__} does not, draw from it with tenshot predict"
        )
    if hasattr(method, "low_res_size"):
        raise InputError(
            f"tenshot paint: this {type(method).__name__} draws from a small image besides: paint with the run of the "
            "base, or with a Cascade of both"
        )
    told = data.pairs if isinstance(data, SyntheticFaces) else data.condition if isinstance(data, Paired) else None
    known = kind or told
    if known is None:
        raise InputError("tenshot paint: nothing tells what the conditions are: give --data, or --kind mask or sketch")
    if known not in ("mask", "sketch"):
        raise InputError(f"tenshot paint: {known} cannot be drawn by hand, only mask and sketch: use tenshot predict")
    if CHANNELS[known] != config.condition_channels:
        raise InputError(
            f"tenshot paint: the network takes conditions of {config.condition_channels} channels, a {known} has "
            f"{CHANNELS[known]}: " + ("leave out --kind" if kind else "give the data that it was trained on")
        )
    reader = ConditionReader(cast(Drawable, known), config.condition_size)
    if kind is not None or not isinstance(data, Paired | SyntheticFaces):
        return _with_classes(Canvas(reader), names)
    data.setup()
    examples = data.val_source or data.train_source
    if isinstance(data, Paired):
        if data.reader.masks.label_map == "ade20k_seg":
            raise InputError("tenshot paint: masks of ade20k_seg tell instances, which have no palette: use predict")
        reader = replace(data.reader, size=config.condition_size)
        photos = known == "sketch" and not data.pairs.conditions
        return _with_classes(Canvas(reader, examples, photos=photos), names)
    return _with_classes(Canvas(reader, examples), {k + 1: name for k, name in enumerate(REGIONS)} | names)


def _with_classes(canvas: Canvas, names: dict[int, str]) -> Canvas:
    """With the palette of a mask: what has a name, and what some of the examples show.

    Raises:
        InputError: There is neither.
    """
    if canvas.kind == "sketch":
        return canvas
    counts = np.zeros(256, dtype=np.int64)
    if canvas.examples is not None:
        total = len(canvas.examples)
        rows = sorted({step * total // COUNTED for step in range(COUNTED)})
        for condition in canvas.examples.read(rows)[CONDITION_IMAGE]:
            counts += np.bincount(canvas.cells(condition).ravel(), minlength=256)
    present = sorted({*names, *np.flatnonzero(counts).tolist()})
    if not present:
        raise InputError("tenshot paint: nothing tells the classes: give --names FILE, a line for each, or --data")
    told = {number: names.get(number) or _unnamed(number, canvas) for number in present}
    return replace(canvas, classes=told, ground=int(counts.argmax()) if counts.any() else present[0])


def _unnamed(number: int, canvas: Canvas) -> str:
    masks = canvas.reader.masks
    usual = 1 if masks.label_map == "ade20k" else 0 if masks.label_map == "colours" else 183
    none = usual if masks.unlabelled is None else masks.unlabelled
    return "no class" if number in (0, none) else f"class {number - 1}"


def read_names(path: str) -> dict[int, str]:
    """A name a line, of class 0 and so on, perhaps after its colour as in a file of ``--data.colours``.

    Returns:
        By id of the palette, k + 1 of class k; without those whose line has none.

    Raises:
        InputError: It cannot be read, or has more lines than there are colours.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"{path} cannot be read ({reason}): set --names to a file with a name a line") from None
    kept = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not 0 < len(kept) <= 255:
        raise InputError(f"{path} has {len(kept)} names: give 1 to 255, a line for each class")
    names = {number: re.sub(r"^\d+[\s,]+\d+[\s,]+\d+\s*,?\s*", "", f"{line} ") for number, line in enumerate(kept, 1)}
    return {number: name.strip() for number, name in names.items() if name.strip()}
