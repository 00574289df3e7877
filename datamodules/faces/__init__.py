"""Cartoon heads drawn with tensors: each a function of (seed, index), in several domains, with labels and maps."""

from tenshot.datamodules.faces.attributes import (
    HAIR_LENGTHS,
    MOUTHS,
    NUM_LABELS,
    FaceAttributes,
    face_attributes,
    face_labels,
)
from tenshot.datamodules.faces.conditions import CONDITIONS, render_condition
from tenshot.datamodules.faces.domains import DOMAINS, render
from tenshot.datamodules.faces.parts import REGIONS
from tenshot.datamodules.faces.source import FacesSource

__all__ = [
    "CONDITIONS",
    "DOMAINS",
    "HAIR_LENGTHS",
    "MOUTHS",
    "NUM_LABELS",
    "REGIONS",
    "FaceAttributes",
    "FacesSource",
    "face_attributes",
    "face_labels",
    "render",
    "render_condition",
]
