"""The kind of network that finds a mask, depth or normals in an image."""

from collections.abc import Mapping
from typing import Any

from tenshot.checkpoints.diffusion_networks import same_weights
from tenshot.checkpoints.kind import Kind, Trained, Weights
from tenshot.errors import InputError
from tenshot.models import UNet, UNetConfig

__all__ = ["PREDICTOR"]


def _public(path: str, content: Mapping[str, Any], weights: Weights, told: Mapping[str, Any]) -> Trained[UNetConfig]:
    raise InputError(
        f"{path}: no dense predictor of tenshot, the only ones that are read: train one with tenshot fit --model "
        "DensePredictor"
    )


PREDICTOR: Kind[UNetConfig] = Kind(
    name="predictor",
    words="dense predictor",
    method="DensePredictor",
    config=UNetConfig,  # of which the noisy image is the image, and the noise the prediction
    networks={"predictor": UNet},
    holds=lambda content: False,
    public=_public,
    settings=("dropout",),
    same=same_weights,
    instead="measure by it, with --evaluate.predictor",
)
