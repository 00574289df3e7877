"""The small parts on the face: brows, eyes, nose, mouth, and sunglasses."""

import torch
from torch import Tensor

from tenshot.datamodules.faces.attributes import FaceAttributes
from tenshot.datamodules.faces.parts import Part, Pose, Solid, per_image
from tenshot.datamodules.faces.shapes import Canvas, box, ellipse, stroke

__all__ = ["eyes_and_brows", "lenses", "mouth", "nose", "temples"]

_SIDES = (-1, 1)


def eyes_and_brows(attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> list[Part]:
    """White, iris, pupil, glint, lid and brow of each eye."""
    parts = []
    size, v = per_image(attributes.eye_size), per_image(attributes.eye_height)
    lift = per_image(attributes.brow_lift)
    white, black = torch.full_like(attributes.iris, 0.97), torch.full_like(attributes.iris, 0.06)
    brow_colour = attributes.hair * 0.5 + attributes.skin * 0.12
    for side in _SIDES:
        u = side * per_image(attributes.eye_spacing)
        x0, y0 = pose.place(u, v)
        wide = pose.foreshortening(u, v)
        x, y = canvas.x - x0, canvas.y - y0
        gaze_x, gaze_y = x - 0.15 * size * pose.turn, y + 0.06 * size
        rx, ry, iris = size * wide, size * 0.84, size * 0.68
        brow_y = y + ry + 0.065 + (0.12 * lift - 0.06) * side * x
        parts += [
            Part("eyes", ellipse(x, y, rx, ry), white),
            Part("eyes", ellipse(gaze_x, gaze_y, iris * wide, iris), attributes.iris, ink=0.5, outlined=False),
            Part("eyes", ellipse(gaze_x, gaze_y, iris * 0.62 * wide, iris * 0.62), black, ink=1.0, outlined=False),
            Part("eyes", ellipse(gaze_x, gaze_y + 0.42 * iris, iris * 0.28, iris * 0.28), white, outlined=False),
            Part("eyes", stroke(x, y, rx, -ry, 0.018), black, ink=1.0, outlined=False),
            Part("brows", stroke(x, brow_y, rx * 1.05, rx * -0.3, 0.023), brow_colour, ink=0.9, outlined=False),
        ]
    return parts


def nose(attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> list[Part]:
    """A rounded tip with its shadow below."""
    size = per_image(attributes.nose)
    x0, y0 = pose.place(0.15 * pose.turn, 0.32)
    x, y = canvas.x - x0, canvas.y - y0
    skull = pose.head()
    body = Solid(x0, y0, size * 1.1, size * 0.85, skull.base + 0.9 * skull.rise, 1.2 * size)
    return [
        Part("nose", ellipse(x, y, size, size * 0.75), attributes.skin * 0.76, solid=body),
        Part("nose", ellipse(x, y + 0.28 * size, size * 0.85, size * 0.7), attributes.skin * 1.03, outlined=False),
    ]


def mouth(attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> list[Part]:
    """Lips along a parabola; a broad smile opens and shows teeth."""
    curve, width = per_image(attributes.mouth_curve), per_image(attributes.mouth_width)
    place = 0.0, 0.62
    x0, y0 = pose.place(*place)
    half = width * pose.foreshortening(*place)
    gap = 0.22 * width * ((curve - 0.5) / 0.35).clamp(0, 1)  # half of the opening
    bow = 0.6 * width * curve
    x, y = canvas.x - x0, canvas.y - y0 + 0.6 * bow
    lip = 0.1 * width + 0.018
    inside = stroke(x, y, half, bow + gap, 0.009 + gap, taper=0.9)
    teeth = torch.maximum(inside, stroke(x, y + gap, half, bow + gap, 1.4 * gap - 0.012, taper=0.7))
    return [
        Part("mouth", stroke(x, y, half, bow + gap, lip + gap, taper=0.5), attributes.lips, ink=0.3, outlined=False),
        Part("mouth", inside, attributes.lips * 0.35, ink=1.0, outlined=False),
        Part("mouth", teeth, torch.full_like(attributes.lips, 0.97), outlined=False),
    ]


def temples(attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> list[Part]:
    """What carries sunglasses: a bar from each lens to the ear, under the hair."""
    parts = []
    for u, x0, y0 in _lens_centres(attributes, pose):
        reach = (pose.x + pose.width * u / 0.43 - x0) / 2
        thick = torch.full_like(reach, 0.024)
        bar = box(canvas.x - x0 - reach, canvas.y - y0 + 0.1 * pose.width, reach.abs(), thick, thick * 0.5)
        parts.append(Part("glasses", bar, attributes.lens * 0.55, ink=1.0))
    return parts


def lenses(attributes: FaceAttributes, pose: Pose, canvas: Canvas) -> list[Part]:
    """Two dark lenses before the eyes, their rims and the bridge between."""
    frame, skull = attributes.lens * 0.55, pose.head()
    v = per_image(attributes.eye_height) + 0.03
    roundness = 0.35 + 0.65 * per_image(attributes.lens_shape)
    x0, y0 = pose.place(0.0, v)
    bridge = stroke(canvas.x - x0, canvas.y - y0 + 0.05, 0.16 * pose.width, -0.05 * pose.width, 0.024)
    parts = [Part("glasses", bridge, frame, ink=1.0)]
    for u, x0, y0 in _lens_centres(attributes, pose):
        rx, ry = 0.36 * pose.width * pose.foreshortening(u, v), 0.3 * pose.width
        x, y = canvas.x - x0, canvas.y - y0
        lens = box(x, y, rx, ry, roundness * torch.minimum(rx, ry))
        body = Solid(x0, y0, rx * 1.3, ry * 1.3, skull.base + 0.95 * skull.rise, torch.full_like(v, 0.05))
        glare = ellipse(x, y + 0.5 * ry, 0.55 * rx, 0.14 * ry)
        parts += [
            Part("glasses", lens - 0.022, frame, solid=body, ink=1.0),
            Part("glasses", lens, attributes.lens, 1.2 + 0.5 * (y / ry), ink=0.8, outlined=False),
            Part(None, glare, torch.ones_like(frame), opacity=0.3, softness=0.03),
        ]
    return parts


def _lens_centres(attributes: FaceAttributes, pose: Pose) -> list[tuple[float, Tensor, Tensor]]:
    """The place u of each lens on the head, and its x and y in the image."""
    v = per_image(attributes.eye_height) + 0.03
    return [(u, *pose.place(u, v)) for u in (-0.43, 0.43)]
