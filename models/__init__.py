"""Networks, and public checkpoints read into them (:mod:`tenshot.models.pretrained`)."""

from tenshot.models.adaptation import Adaptation
from tenshot.models.classifier import UNetClassifier
from tenshot.models.glide import ConditionConfig, ConditionEncoder, GlideConfig, GlideUNet, PITIConfig
from tenshot.models.patchgan import PatchGANDiscriminator
from tenshot.models.stylegan2 import (
    PatchDiscriminator,
    PatchHeads,
    StyleGAN2Config,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)
from tenshot.models.unet import UNet
from tenshot.models.unet_config import UNetConfig

__all__ = [
    "Adaptation",
    "ConditionConfig",
    "ConditionEncoder",
    "GlideConfig",
    "GlideUNet",
    "PITIConfig",
    "PatchDiscriminator",
    "PatchGANDiscriminator",
    "PatchHeads",
    "StyleGAN2Config",
    "StyleGAN2Discriminator",
    "StyleGAN2Generator",
    "UNet",
    "UNetClassifier",
    "UNetConfig",
]
