"""What makes one cartoon head differ from the next: named numbers, a function of (seed, index)."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tenshot.datamodules.faces.counter import hash_keys, uniform

__all__ = ["HAIR_LENGTHS", "MOUTHS", "NUM_LABELS", "FaceAttributes", "face_attributes", "face_labels"]

HAIR_LENGTHS = ("short", "medium", "long")
MOUTHS = ("sad", "neutral", "smiling")
NUM_LABELS = len(HAIR_LENGTHS) * len(MOUTHS)

# Colours are RGB in [0, 1]; a scale is read between its rows, a palette gives one of its rows.
_SKIN_SCALE = torch.tensor(
    [[255, 226, 206], [246, 207, 176], [229, 180, 140], [200, 145, 104], [162, 108, 72], [116, 74, 50], [86, 54, 40]]
).div(255)
_HAIR_PALETTE = torch.tensor(
    [
        [38, 32, 36],  # black
        [66, 44, 34],  # dark brown
        [108, 68, 42],  # brown
        [146, 84, 46],  # chestnut
        [204, 100, 44],  # ginger
        [222, 176, 92],  # blond
        [242, 224, 178],  # platinum
        [160, 160, 170],  # grey
        [44, 146, 156],  # teal
        [222, 110, 156],  # pink
    ]
).div(255)
_IRIS_PALETTE = torch.tensor(
    [[62, 38, 26], [104, 64, 34], [128, 104, 48], [70, 122, 72], [62, 118, 176], [110, 132, 150]]
).div(255)
_LIP_REDS = torch.tensor([[196, 66, 74], [172, 44, 84], [214, 92, 92], [150, 58, 54]]).div(255)


@dataclass(frozen=True)
class FaceAttributes:
    """The heads of N images.

    Lengths are in half image sizes, so the image spans [-1, 1]; x grows to the right, y down.
    All but ``texture`` are float32.
    """

    background: Tensor  # (N, 3) colour in the middle of the image
    background_gradient: Tensor  # (N, 2) relative change of brightness from the middle to the right and the lower edge
    clothes: Tensor  # (N, 3) colour
    head_x: Tensor  # (N,) centre of the head
    head_y: Tensor  # (N,)
    head_width: Tensor  # (N,) half of it
    head_height: Tensor  # (N,) half of it
    turn: Tensor  # (N,) sine of the angle by which the head looks to the right of the image
    jaw: Tensor  # (N,) by what fraction the head narrows towards the chin
    skin_tone: Tensor  # (N,) 0 light ... 1 dark
    skin: Tensor  # (N, 3) colour, from skin_tone
    hair: Tensor  # (N, 3) colour
    hair_length: Tensor  # (N,) 0 cropped ... 1 far below the shoulders
    hair_volume: Tensor  # (N,) 0 flat ... 1 full
    fringe: Tensor  # (N,) 0 high forehead ... 1 down to the brows
    parting: Tensor  # (N,) -1 ... 1, to which side the fringe opens
    eye_height: Tensor  # (N,) below the centre of the head, in half heads
    eye_spacing: Tensor  # (N,) from the middle of the face, in half heads
    eye_size: Tensor  # (N,) half width
    iris: Tensor  # (N, 3) colour
    brow_lift: Tensor  # (N,) -1 ... 1, the outer ends of the brows against the inner ones
    nose: Tensor  # (N,) half width
    mouth_curve: Tensor  # (N,) -1 sad ... 1 laughing
    mouth_width: Tensor  # (N,) half of it
    lips: Tensor  # (N, 3) colour
    lens_shape: Tensor  # (N,) of the sunglasses: 0 square ... 1 round
    lens: Tensor  # (N, 3) colour of their lenses
    texture: Tensor  # int64 (N,) the key under which brush strokes are drawn

    def __len__(self) -> int:
        return len(self.texture)

    def take(self, rows: slice) -> "FaceAttributes":
        """The same attributes of some of the images."""
        return FaceAttributes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def face_attributes(seed: int, indices: Tensor) -> FaceAttributes:
    """The attributes of the images ``indices``, int64 (N,): each a function of (seed, index) alone."""

    def draw(name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        return uniform(seed, indices, name, low, high)

    def pick(name: str, palette: Tensor) -> Tensor:
        return palette[(draw(name) * len(palette)).long()]  # (N, 3)

    skin_tone = draw("skin_tone")
    skin = (_between(_SKIN_SCALE, skin_tone) * draw("skin_light", 0.96, 1.04)[:, None]).clamp(0, 1)
    made_up = draw("lip_strength", 0.25, 0.9)[:, None]
    return FaceAttributes(
        background=_hsv(
            draw("background_hue"), draw("background_depth", 0.08, 0.48), draw("background_light", 0.48, 0.86)
        ),
        background_gradient=torch.stack([draw("gradient_x", -0.2, 0.2), draw("gradient_y", -0.25, 0.25)], dim=1),
        clothes=_hsv(draw("clothes_hue"), draw("clothes_depth", 0.1, 0.75), draw("clothes_light", 0.25, 0.95)),
        head_x=draw("head_x", -0.1, 0.1),
        head_y=draw("head_y", -0.05, 0.07),
        head_width=draw("head_width", 0.46, 0.57),
        head_height=draw("head_height", 0.58, 0.68),
        turn=draw("turn", -0.36, 0.36),
        jaw=draw("jaw", 0.05, 0.26),
        skin_tone=skin_tone,
        skin=skin,
        hair=(pick("hair", _HAIR_PALETTE) * draw("hair_light", 0.85, 1.15)[:, None]).clamp(0, 1),
        hair_length=_classed(draw("hair_length"), len(HAIR_LENGTHS)),
        hair_volume=draw("hair_volume"),
        fringe=draw("fringe"),
        parting=draw("parting", -1.0, 1.0),
        eye_height=draw("eye_height", -0.08, 0.1),
        eye_spacing=draw("eye_spacing", 0.38, 0.47),
        eye_size=draw("eye_size", 0.11, 0.15),
        iris=pick("iris", _IRIS_PALETTE),
        brow_lift=draw("brow_lift", -1.0, 1.0),
        nose=draw("nose", 0.045, 0.085),
        mouth_curve=_classed(draw("mouth_curve"), len(MOUTHS)) * 2 - 1,
        mouth_width=draw("mouth_width", 0.17, 0.25),
        lips=skin * 0.72 * (1 - made_up) + pick("lip_red", _LIP_REDS) * made_up,
        lens_shape=draw("lens_shape"),
        lens=_hsv(draw("lens_hue"), draw("lens_depth", 0.1, 0.7), draw("lens_light", 0.03, 0.14)),
        texture=torch.from_numpy(hash_keys(seed, indices, "texture").view("int64")),
    )


def face_labels(attributes: FaceAttributes) -> Tensor:
    """The class of each head: len(MOUTHS) * (row of HAIR_LENGTHS) + (row of MOUTHS), int64 (N,)."""
    hair = (attributes.hair_length * len(HAIR_LENGTHS)).long()
    mouth = ((attributes.mouth_curve + 1) / 2 * len(MOUTHS)).long()
    return hair * len(MOUTHS) + mouth


def _classed(u: Tensor, classes: int) -> Tensor:
    """Uniform [0, 1) -> [0, 1) with a gap about each border of ``classes`` equal parts: no class is a close call."""
    part = (u * classes).floor()
    return (part + 0.15 + 0.7 * (u * classes - part)) / classes


def _between(scale: Tensor, u: Tensor) -> Tensor:
    """Colours (N, 3) at the fraction u, (N,) in [0, 1), of the way along the rows of a scale (K, 3)."""
    position = u * (len(scale) - 1)
    row = position.long()
    weight = (position - row)[:, None]
    return scale[row] * (1 - weight) + scale[row + 1] * weight


def _hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Hue, saturation, value, (N,) in [0, 1] each  ->  RGB (N, 3) in [0, 1]."""
    offset = torch.tensor([5.0, 3.0, 1.0])
    k = (offset + hue[:, None] * 6).remainder(6)  # (N, 3)
    return value[:, None] * (1 - saturation[:, None] * torch.minimum(k, 4 - k).clamp(0, 1))
