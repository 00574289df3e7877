"""Public checkpoints, read into our networks."""

from tenshot.models.pretrained.adm import AdmCheckpoint, fill, load_adm, load_adm_classifier, read_adm
from tenshot.models.pretrained.reading import (
    is_whole,
    read_checkpoint,
    read_state_dict,
    safetensors_metadata,
    sha256,
)

__all__ = [
    "AdmCheckpoint",
    "fill",
    "is_whole",
    "load_adm",
    "load_adm_classifier",
    "read_adm",
    "read_checkpoint",
    "read_state_dict",
    "safetensors_metadata",
    "sha256",
]
