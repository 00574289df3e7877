"""From the files of masks, as data sets have them, to one colour a class."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from tenshot.datamodules.pairs.palette import MOST_CLASSES, class_colours
from tenshot.datamodules.reading import ImageError
from tenshot.errors import InputError, did_you_mean

__all__ = ["LABEL_MAPS", "LabelMap", "Masks", "palette_in_use", "read_colours"]

LabelMap = Literal["indices", "coco_stuff", "ade20k", "ade20k_seg", "colours"]
LABEL_MAPS: tuple[str, ...] = get_args(LabelMap)

_VALUES = {"indices": range(MOST_CLASSES), "coco_stuff": range(182), "ade20k": range(1, 151)}
"""Of pixels that have a class; value v has id v + 1."""
_NO_CLASS = {"indices": 255, "coco_stuff": 255, "ade20k": 0}
"""Value of pixels without a class."""
_UNLABELLED = {"indices": 183, "coco_stuff": 183, "ade20k": 1}
"""Their ids by default: of COCO those of PITI's published model (value 255 as 182), of ADE20K value 0 as any other."""
_SAID = 3  # colours in a message


@dataclass(frozen=True)
class Masks:
    """How masks say which class a pixel has.

    Args:
        label_map: See ``Paired``.
        unlabelled: Id of the palette whose colour pixels without a class get; None: the usual one.
        colours: For ``colours`` the id of each colour, red * 65536 + green * 256 + blue; None: the palette's own.
        palette: Colours of the indices in use in one palette PNG of the set; the others must agree.

    Raises:
        InputError: There is no such label map, or the colour is that of a class.
    """

    label_map: str = "indices"
    unlabelled: int | None = None
    colours: Mapping[int, int] | None = None
    palette: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.label_map not in LABEL_MAPS:
            raise InputError(
                f"--data.label_map {self.label_map!r} does not exist{did_you_mean(self.label_map, LABEL_MAPS)}: choose "
                f"one of {', '.join(LABEL_MAPS)}"
            )
        if self.unlabelled is None:
            return
        if self.label_map == "ade20k_seg":
            raise InputError("--data.unlabelled does not go with --data.label_map ade20k_seg, read as it is: drop it")
        if not 0 <= self.unlabelled <= MOST_CLASSES:
            raise InputError(
                f"--data.unlabelled is {self.unlabelled}: choose 0 for black, or an id up to {MOST_CLASSES}"
            )
        values = _VALUES.get(self.label_map, range(0))
        if self.label_map != "indices" and self.unlabelled - 1 in values:
            raise InputError(
                f"--data.unlabelled {self.unlabelled} is the colour of class {self.unlabelled - 1}: choose 0 or 183"
            )

    @property
    def classes(self) -> str | None:
        """What the classes are numbered by, equal for masks that say the same; None where colours tell no class."""
        if self.colours is None:
            return None if self.label_map == "ade20k_seg" else self.label_map
        return f"colours {hashlib.sha256(repr(sorted(self.colours.items())).encode()).hexdigest()[:16]}"

    @property
    def num_classes(self) -> int | None:
        """How many classes there are; None where masks may hold any."""
        if self.colours is None:
            return {"coco_stuff": 182, "ade20k": 151}.get(self.label_map)
        return max(self.colours.values())

    @property
    def unlabelled_class(self) -> int | None:
        """The class whose colour pixels without a class get; None where that is black."""
        id_of_none = _UNLABELLED.get(self.label_map, 0) if self.unlabelled is None else self.unlabelled
        return id_of_none - 1 if id_of_none else None

    def read(self, image: Image.Image, data: bytes, title: str) -> Image.Image:
        """The ids of a mask, mode "L", in its own size; of ADE20K's full release its colours, RGB.

        Args:
            image: The mask, decoded but not converted.
            data: Its file.
            title: How errors name it.

        Raises:
            ImageError: It is a JPEG, or of another kind than ``label_map``, or some pixels have no known colour.
        """
        if data[:2] == b"\xff\xd8":
            raise ImageError(f"{title} is a JPEG, which blurs classes into others: save masks as PNG", "mask")
        if self.label_map == "ade20k_seg":
            return _ade20k_seg(image.convert("RGB"), title)
        if self.label_map == "colours":
            return Image.fromarray(self._of_colours(np.asarray(image.convert("RGB")), title))
        return Image.fromarray(self._of_values(self._values(image, data, title), title))

    def _values(self, image: Image.Image, data: bytes, title: str) -> np.ndarray:
        """What stands in the pixels: uint8 (H, W)."""
        if image.mode == "RGB":
            channels = np.asarray(image)
            if (channels != channels[..., :1]).any():
                raise ImageError(
                    f"{title} has colours, --data.label_map {self.label_map} reads numbers of classes: set it to "
                    "colours",
                    "mask",
                )
            return np.ascontiguousarray(channels[..., 0])
        if image.mode not in ("1", "L", "P"):
            raise ImageError(f"{title} is in colour mode {image.mode}: save the mask as an 8-bit PNG", "mask")
        values = np.array(image, dtype=np.uint8)
        if image.mode == "P":
            self._same_palette(image, values, title)
        return values // _scale(data) if image.mode == "L" else values

    def _same_palette(self, image: Image.Image, values: np.ndarray, title: str) -> None:
        for index, colour in palette_in_use(image, values).items():
            if self.palette.get(index, colour) != colour:
                raise ImageError(
                    f"{title} and another palette PNG colour index {index} differently ({colour} and "
                    f"{self.palette[index]}), so it is no class: set --data.label_map colours",
                    "mask",
                )

    def _of_values(self, values: np.ndarray, title: str) -> np.ndarray:
        table = np.full(256, -1)
        table[_VALUES[self.label_map]] = np.array(_VALUES[self.label_map]) + 1
        unlabelled = _UNLABELLED[self.label_map] if self.unlabelled is None else self.unlabelled
        counts = np.bincount(values.ravel(), minlength=256)
        none = _NO_CLASS[self.label_map]
        if self.label_map == "indices" and unlabelled:
            table[unlabelled - 1] = -1  # the colour is taken
        table[none] = unlabelled
        unknown = np.flatnonzero((table < 0) & (counts > 0))
        if len(unknown):
            which = _listed([f"value {value}" for value in unknown], counts[unknown])
            known = f"{_VALUES[self.label_map][0]} … {_VALUES[self.label_map][-1]} and {none} for no class"
            remedy = (
                f"{unlabelled - 1} would get the colour of unlabelled pixels: set --data.unlabelled 0"
                if self.label_map == "indices"
                else f"{self.label_map} has {known}: mend the mask or choose another --data.label_map"
            )
            raise ImageError(f"{title} has pixels of no class ({which}); {remedy}", "mask")
        return table.astype(np.uint8)[values]

    def _of_colours(self, pixels: np.ndarray, title: str) -> np.ndarray:
        """Ids, uint8 (H, W), of colours, uint8 (H, W, 3)."""
        known = _PALETTE if self.colours is None else self.colours
        codes = _codes(pixels)
        ids = np.array([known[code] for code in sorted(known)])
        sorted_codes = np.array(sorted(known))
        places = np.searchsorted(sorted_codes, codes).clip(max=len(known) - 1)
        strange = sorted_codes[places] != codes
        if strange.any():
            found, first, counts = np.unique(codes[strange], return_index=True, return_counts=True)
            most = np.argsort(-counts, kind="stable")
            names = [str(tuple(pixels[strange][first[place]].tolist())) for place in most]
            told = "PITI's palette lacks" if self.colours is None else "--data.colours lacks"
            remedy = (
                "list yours in a file, --data.colours FILE" if self.colours is None else "add them or mend the mask"
            )
            which = _listed(names, counts[most])
            raise ImageError(f"{title} has pixels of {len(found)} colours that {told} ({which}): {remedy}", "mask")
        return np.where(ids == 0, self.unlabelled or 0, ids).astype(np.uint8)[places]


def _codes(pixels: np.ndarray) -> np.ndarray:
    """red * 65536 + green * 256 + blue: uint8 (…, 3)  ->  int32 (…)."""
    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


_PALETTE = {int(code): number for number, code in enumerate(_codes(class_colours().numpy()))}


def _ade20k_seg(image: Image.Image, title: str) -> Image.Image:
    """Class and instance as ADE20K's full release has them, red / 10 * 256 + green and blue, are taken as they are."""
    red = np.asarray(image)[..., 0]
    strange = red[red % 10 != 0]
    if len(strange):
        which = _listed([f"red {strange[0]}"], np.array([len(strange)]))
        raise ImageError(
            f"{title} is no _seg.png of ADE20K's full release, where red is a multiple of ten ({which}): choose "
            "another --data.label_map",
            "mask",
        )
    return image


def palette_in_use(image: Image.Image, values: np.ndarray | None = None) -> dict[int, tuple[int, ...]]:
    """The colours of the indices that a palette PNG has pixels of; empty for other images."""
    if image.mode != "P" or image.palette is None:
        return {}
    table = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    used = np.unique(np.array(image) if values is None else values)
    return {int(index): tuple(table[index].tolist()) for index in used if index < len(table)}


def read_colours(path: str) -> dict[int, int]:
    """A file with a line for each class, ``red green blue``, and its name if one likes: class k is that of line k.

    Black, unless a line has it, is no class.

    Returns:
        id, k + 1, by red * 65536 + green * 256 + blue.

    Raises:
        InputError: It cannot be read, or a line is none of these or comes twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"{path} cannot be read ({reason}): set --data.colours to a file of colours") from None
    ids: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if not words or line.lstrip().startswith("#"):
            continue
        if len(words) < 3 or not all(word.isdecimal() and int(word) < 256 for word in words[:3]):
            raise InputError(f"{path}: line {number} is no colour ({line.strip()[:40]}): write red green blue, 0 … 255")
        red, green, blue = map(int, words[:3])
        code = red << 16 | green << 8 | blue
        if code in ids:
            raise InputError(f"{path}: line {number} is the colour of class {ids[code] - 1} again: give each its own")
        ids[code] = len(ids) + 1
    if not 0 < len(ids) <= MOST_CLASSES:
        raise InputError(f"{path} has {len(ids)} colours: give 1 to {MOST_CLASSES}, one a line")
    ids.setdefault(0, 0)
    return ids


def _scale(data: bytes) -> int:
    """What a grey PNG of 2 or 4 bits has been multiplied with in decoding, to reach up to 255."""
    bits = data[24] if data[:8] == b"\x89PNG\r\n\x1a\n" else 8
    return 255 // (2**bits - 1) if bits in (2, 4) else 1


def _listed(names: list[str], counts: np.ndarray) -> str:
    """``value 7: 12 pixels, value 9: 1 pixel, …``."""
    told = [f"{name}: {count} pixel{'s' if count != 1 else ''}" for name, count in zip(names, counts, strict=True)]
    return ", ".join(told[:_SAID] + ["…"] * (len(told) > _SAID))
