"""The methods: one LightningModule each."""

from tenshot.lightning_modules.contract import ImageGenerator, LatentGenerator
from tenshot.lightning_modules.ddpm import DDPM
from tenshot.lightning_modules.ddpm_pa import DDPMPA, Pairwise
from tenshot.lightning_modules.folder_generator import FolderGenerator
from tenshot.lightning_modules.guidance import ClassifierGuidance
from tenshot.lightning_modules.noisy_classifier import NoisyClassifier
from tenshot.lightning_modules.sampler import Sampler

__all__ = [
    "DDPM",
    "DDPMPA",
    "ClassifierGuidance",
    "FolderGenerator",
    "ImageGenerator",
    "LatentGenerator",
    "NoisyClassifier",
    "Pairwise",
    "Sampler",
]
