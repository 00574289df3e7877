"""Networks, and public checkpoints read into them (:mod:`tenshot.models.pretrained`)."""

from tenshot.models.classifier import UNetClassifier
from tenshot.models.unet import UNet, UNetConfig

__all__ = ["UNet", "UNetClassifier", "UNetConfig"]
