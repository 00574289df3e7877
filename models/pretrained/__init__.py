"""Public checkpoints, read into our networks."""

from tenshot.models.pretrained.adm import AdmCheckpoint, fill, load_adm, load_adm_classifier, read_adm
from tenshot.models.pretrained.reading import (
    is_whole,
    read_checkpoint,
    read_state_dict,
    safetensors_metadata,
    sha256,
)
from tenshot.models.pretrained.weight_files import Trunk, WeightFile, weight_file

__all__ = [
    "AdmCheckpoint",
    "Trunk",
    "WeightFile",
    "fill",
    "is_whole",
    "load_adm",
    "load_adm_classifier",
    "read_adm",
    "read_checkpoint",
    "read_state_dict",
    "safetensors_metadata",
    "sha256",
    "weight_file",
]
