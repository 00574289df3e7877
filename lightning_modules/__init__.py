"""The methods: one LightningModule each."""

from tenshot.lightning_modules.contract import ImageGenerator
from tenshot.lightning_modules.ddpm import DDPM
from tenshot.lightning_modules.sampler import Sampler

__all__ = ["DDPM", "ImageGenerator", "Sampler"]
