"""Hair behind the head and before the face, and what little of it babies have."""

from dataclasses import replace

import torch
from torch import Tensor

from tenshot.datamodules.faces.attributes import FaceAttributes
from tenshot.datamodules.faces.head import face_shape
from tenshot.datamodules.faces.parts import Part, Pose, Solid, per_image
from tenshot.datamodules.faces.shapes import Canvas, ellipse, intersect_smoothly, stroke

__all__ = ["Fluff", "Hair"]


class Hair:
    """A mop: a dome about the skull that hangs down to the hair's length, with a window for the face."""

    def __init__(self, attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> None:
        self.attributes = attributes
        self.pose = pose
        self.canvas = canvas
        self.body, self.mop = self._mop()
        self.locks = torch.maximum(self.mop, -self._window())

    def behind(self) -> list[Part]:
        """The mop as seen behind neck and head."""
        flat = replace(self.body, base=self.body.base * 0.5, rise=self.body.rise * 0.3)
        return [Part("hair", self.mop, self.attributes.hair * 0.72, self.body.light(self.canvas), flat)]

    def shadow(self) -> list[Part]:
        """The shadow of the hair on the face."""
        face = face_shape(self.attributes, self.pose, self.canvas)
        return [Part(None, self.locks - 0.035, self.attributes.skin * 0.6, opacity=0.5, softness=0.03, within=face)]

    def before(self) -> list[Part]:
        """The mop but for the window."""
        light = self.body.light(self.canvas) * self._shine()
        return [Part("hair", self.locks, self.attributes.hair, light, self.body)]

    def _mop(self) -> tuple[Solid, Tensor]:
        pose, canvas = self.pose, self.canvas
        length, volume = per_image(self.attributes.hair_length), per_image(self.attributes.hair_volume)
        rx = pose.width * (1.04 + 0.10 * volume + 0.07 * length)
        ry = pose.height * (1.05 + 0.12 * volume)
        x0, y0 = pose.x - 0.1 * pose.turn * pose.width, pose.y - 0.04 * pose.height
        x, y = canvas.x - x0, canvas.y - y0
        flare = 1 + 0.16 * length * y.clamp(min=0) / pose.height
        dome = ellipse(x / flare, y.clamp(max=0), rx, ry)
        body = Solid(x0, y0, rx, ry, torch.full_like(rx, 0.3), rx, hanging=True)
        return body, intersect_smoothly(dome, y - pose.height * (1.9 * length - 0.1), 0.22)

    def _window(self) -> Tensor:
        """An arch with straight sides; the fringe at its top opens to one side."""
        pose, canvas = self.pose, self.canvas
        fringe, parting = per_image(self.attributes.fringe), per_image(self.attributes.parting)
        middle = -0.1  # where the arch begins, in half heads
        arch = pose.height * (middle + 0.76 - 0.40 * fringe)
        x0, y0 = pose.place(0.0, middle)
        y = canvas.y - y0
        up = (-y / arch).clamp(0, 1.5)
        return ellipse(canvas.x - x0 - 0.45 * parting * up * pose.width, y.clamp(max=0), pose.width * 0.84, arch)

    def _shine(self) -> Tensor:
        """A brighter ring about the crown."""
        u, v = (self.canvas.x - self.body.x) / self.body.rx, (self.canvas.y - self.body.y) / self.body.ry
        ring = (1 - ((v + 0.68 - 0.3 * u * u) / 0.13).abs()).clamp(min=0)
        return 1 + 0.35 * ring * (1 - (u / 0.75) * (u / 0.75)).clamp(min=0)


class Fluff:
    """A baby's hair: a thin cap, and a tuft on the crown."""

    def __init__(self, attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> None:
        self.attributes = attributes
        self.pose = pose
        self.canvas = canvas

    def behind(self) -> list[Part]:
        """Nothing."""
        return []

    def shadow(self) -> list[Part]:
        """The cap, through which the skin is seen."""
        pose = self.pose
        x, y = self.canvas.x - pose.x, self.canvas.y - pose.y
        bald = ellipse(x, y - 0.28 * pose.height, pose.width * 1.1, pose.height * 1.06)
        skull = ellipse(x, y, pose.width, pose.height)
        return [Part(None, -bald, self.attributes.hair, opacity=0.55, softness=0.04, within=skull)]

    def before(self) -> list[Part]:
        """The tuft: two curls that cross."""
        half = torch.full_like(self.pose.x, 0.1)
        root = self.pose.x - 0.05 * per_image(self.attributes.parting)
        curls = []
        for side in (-1, 1):
            x, y = self.canvas.x - root - side * 0.05, self.canvas.y - self.pose.y + 1.04 * self.pose.height
            curls.append(Part("hair", stroke(x, y + side * 0.7 * x, half, -0.5 * half, 0.03), self.attributes.hair))
        return curls
