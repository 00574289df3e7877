"""The large parts: shoulders, neck, ears and the head itself."""

import torch
from torch import Tensor

from tenshot.datamodules.faces.attributes import FaceAttributes
from tenshot.datamodules.faces.parts import Part, Pose, Solid, per_image
from tenshot.datamodules.faces.shapes import Canvas, box, ellipse

__all__ = ["face_shape", "head", "neck", "shoulders"]

_SIDES = (-1, 1)


def shoulders(attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> list[Part]:
    """The chest, in clothes."""
    body = _chest(pose)
    shape = ellipse(canvas.x - body.x, (canvas.y - body.y).clamp(max=0), body.rx, body.ry)
    return [Part("clothes", shape, attributes.clothes, body.light(canvas), body)]


def neck(attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> list[Part]:
    """The neck down to the collar, in the shadow of the chin."""
    chest, zero = _chest(pose), torch.zeros_like(pose.x)
    body = Solid(pose.x, zero, pose.width * 0.5, zero + 1, zero + 0.2, pose.width * 0.4, hanging=True)
    collar = chest.y - chest.ry + 0.1
    shape = box(canvas.x - pose.x * 0.9, canvas.y - (collar - 0.3), pose.width * 0.42, zero + 0.3, pose.width * 0.38)
    chin = pose.y + 0.98 * pose.height
    shadow = 1 - 0.3 * (1 - (canvas.y - chin).abs() / 0.2).clamp(0, 1)
    return [Part("skin", shape, attributes.skin, body.light(canvas) * shadow, body)]


def head(attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> list[Part]:
    """Ears, head, and the red of the cheeks."""
    body = pose.head()
    shape = face_shape(attributes, pose, canvas)
    face = Part("skin", shape, attributes.skin, body.light(canvas), body)
    return [*_ears(attributes, pose, canvas), face, *_cheeks(attributes, pose, canvas, shape)]


def face_shape(attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> Tensor:
    """Distance to an egg: an ellipse that narrows towards a chin which turns with the head."""
    y = canvas.y - pose.y
    lower = (y / pose.height).clamp(0, 1.2)
    x = canvas.x - pose.x - 0.14 * pose.turn * pose.width * lower
    return ellipse(x / (1 - per_image(attributes.jaw) * lower * lower), y, pose.width, pose.height)


def _chest(pose: Pose) -> Solid:
    zero = torch.zeros_like(pose.x)
    return Solid(pose.x * 0.6, pose.y + pose.height + 0.6, zero + 0.86, zero + 0.54, zero, zero + 0.3, hanging=True)


def _ears(attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> list[Part]:
    parts = []
    rx, ry = 0.16 * pose.width, 0.2 * pose.height
    y0 = pose.y + 0.1 * pose.height
    for side in _SIDES:
        x0 = pose.x + pose.width * (side * 0.98 - 0.16 * pose.turn)
        x, y = canvas.x - x0, canvas.y - y0
        body = Solid(x0, y0, rx * 1.1, ry * 1.1, torch.full_like(rx, 0.3), rx)
        parts += [
            Part("skin", ellipse(x, y, rx, ry), attributes.skin * 0.93, solid=body),
            Part(None, ellipse(x, y, rx * 0.5, ry * 0.55), attributes.skin * 0.7, opacity=0.6),
        ]
    return parts


def _cheeks(attributes: FaceAttributes, pose: Pose, canvas: Canvas, face: Tensor) -> list[Part]:
    parts = []
    blush = attributes.skin * 0.75 + attributes.lips * 0.3
    for side in _SIDES:
        place = 0.5 * side, 0.38
        x, y = pose.place(*place)
        radius = 0.2 * pose.width
        spot = ellipse(canvas.x - x, canvas.y - y, radius * pose.foreshortening(*place), radius * 0.8)
        parts.append(Part(None, spot, blush, opacity=0.45, softness=0.14, within=face))
    return parts
