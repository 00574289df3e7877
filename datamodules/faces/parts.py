"""What a drawing of a head is made of: parts laid over one another, and the pose that places them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tenshot.datamodules.faces.attributes import FaceAttributes
from tenshot.datamodules.faces.shapes import Canvas, root

__all__ = ["REGIONS", "Part", "Pose", "Solid", "per_image"]

REGIONS = ("background", "clothes", "hair", "skin", "brows", "eyes", "nose", "mouth", "glasses")


def per_image(value: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1), to meet the pixels."""
    return value[:, None, None]


@dataclass(frozen=True)
class Solid:
    """A half ellipsoid that bulges towards the viewer; below its centre it goes on as a cylinder if ``hanging``.

    All (N, 1, 1), lengths in half image sizes. Its highest point is base + rise above the image's plane.
    """

    x: Tensor
    y: Tensor
    rx: Tensor
    ry: Tensor
    base: Tensor
    rise: Tensor
    hanging: bool = False

    def normal(self, canvas: Canvas) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors away from the surface: right, down, towards the viewer; each broadcasts to (N, H, W)."""
        u, v, w = self._sphere(canvas)
        p, q, r = u / self.rx, v / self.ry, w / self.rise
        scale = (p * p + q * q + r * r).rsqrt()
        return p * scale, q * scale, r * scale

    def height(self, canvas: Canvas) -> Tensor:
        """How far the surface stands before the image's plane, (N, H, W)."""
        return self.base + self.rise * self._sphere(canvas)[2]

    def light(self, canvas: Canvas) -> Tensor:
        """Brightness about 1 under a lamp above the viewer, (N, H, W)."""
        _, v, w = self._sphere(canvas)
        return (0.78 - 0.10 * v) + 0.28 * w

    def _sphere(self, canvas: Canvas) -> tuple[Tensor, Tensor, Tensor]:
        """The point of the unit sphere that the ellipsoid's point stretches; its rim is kept from standing upright."""
        u, v = (canvas.x - self.x) / self.rx, (canvas.y - self.y) / self.ry
        if self.hanging:
            v = v.clamp(max=0)
        return u, v, root(((1 - u * u) - v * v).clamp(min=0.02))


@dataclass(frozen=True)
class Part:
    """One layer of a drawing.

    region: the class of its pixels, one of REGIONS; None where it only tints what lies below
    distance: (N, H, W), negative inside
    colour: (N, 3) in [0, 1]
    light: (N, H, W) factor of the colour, or None for 1
    solid: the body it lies on, or None for that of the part below
    ink: how dark a pen drawing fills it, 0 ... 1
    outlined: a pen drawing draws its edge, if it has a region
    opacity, softness, within: of a tint: its strength, the width of its edge, and the distance to what it cannot leave
    """

    region: str | None
    distance: Tensor
    colour: Tensor
    light: Tensor | None = None
    solid: Solid | None = None
    ink: float = 0.0
    outlined: bool = True
    opacity: float = 1.0
    softness: float = 0.0
    within: Tensor | None = None


class Pose:
    """Where points of the face fall in the image once the head is turned. Everything is (N, 1, 1).

    A point of the face is given by its place (u, v) on the head seen from the front, a unit ball: u from -1 (one ear)
    to 1, v from -1 (crown) to 1 (chin). Turning the ball moves the point to u cos + sqrt(1 - u^2 - v^2) sin.
    """

    def __init__(self, attributes: FaceAttributes) -> None:
        self.x = per_image(attributes.head_x)
        self.y = per_image(attributes.head_y)
        self.width = per_image(attributes.head_width)
        self.height = per_image(attributes.head_height)
        self.turn = per_image(attributes.turn)
        self._cosine = (1 - self.turn * self.turn).sqrt()

    def place(self, u: Tensor | float, v: Tensor | float) -> tuple[Tensor, Tensor]:
        """The image's x and y of a point of the face."""
        x = u * self._cosine + self._front(u, v) * self.turn
        return self.x + self.width * x, self.y + self.height * v

    def foreshortening(self, u: Tensor | float, v: Tensor | float) -> Tensor:
        """How wide a small thing at (u, v) looks, against the same thing with the head straight."""
        return self._cosine - u / self._front(u, v) * self.turn

    def head(self) -> Solid:
        """The head as a body."""
        deep = 0.9 * self.width
        return Solid(self.x, self.y, self.width * 1.02, self.height * 1.02, torch.full_like(deep, 0.35), deep)

    def _front(self, u: Tensor | float, v: Tensor | float) -> Tensor:
        return (1 - torch.zeros_like(self.x) - u * u - v * v).clamp(min=0.05).sqrt()
