"""StyleGAN2 in plain PyTorch (arXiv 1912.04958)."""

from tenshot.models.stylegan2.config import StyleGAN2Config
from tenshot.models.stylegan2.discriminator import PatchDiscriminator, PatchHeads, StyleGAN2Discriminator
from tenshot.models.stylegan2.fir import fir_resample
from tenshot.models.stylegan2.generator import StyleGAN2Generator

__all__ = [
    "PatchDiscriminator",
    "PatchHeads",
    "StyleGAN2Config",
    "StyleGAN2Discriminator",
    "StyleGAN2Generator",
    "fir_resample",
]
