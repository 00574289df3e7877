"""Trained networks in files: which kinds there are, how they are found, read, described and compared."""

from tenshot.checkpoints.adapted import Adapted
from tenshot.checkpoints.dense_prediction import PREDICTOR
from tenshot.checkpoints.diffusion_networks import CLASSIFIER, UNET
from tenshot.checkpoints.glide import (
    CONDITION_ENCODER,
    GLIDE_UNET,
    PITI_UNET,
    for_conditions,
    with_condition_input,
    with_encoder,
)
from tenshot.checkpoints.kind import Kind, Trained, Weights
from tenshot.checkpoints.registry import KINDS, describe, read
from tenshot.checkpoints.resuming import refuse_other, start_from
from tenshot.checkpoints.source import FrozenSource
from tenshot.checkpoints.stylegan2 import STYLEGAN2

__all__ = [
    "CLASSIFIER",
    "CONDITION_ENCODER",
    "GLIDE_UNET",
    "KINDS",
    "PITI_UNET",
    "PREDICTOR",
    "STYLEGAN2",
    "UNET",
    "Adapted",
    "FrozenSource",
    "Kind",
    "Trained",
    "Weights",
    "describe",
    "for_conditions",
    "read",
    "refuse_other",
    "start_from",
    "with_condition_input",
    "with_encoder",
]
