"""The methods: one LightningModule each."""

from tenshot.lightning_modules.cascade import Cascade, CascadeStage
from tenshot.lightning_modules.cdc import CDC, Correspondence
from tenshot.lightning_modules.classification_accuracy import ClassificationAccuracyScore
from tenshot.lightning_modules.contract import AdjustableGenerator, ImageGenerator, LatentGenerator
from tenshot.lightning_modules.ddpm import DDPM
from tenshot.lightning_modules.ddpm_pa import DDPMPA, Pairwise
from tenshot.lightning_modules.dense_predictor import DensePredictor
from tenshot.lightning_modules.folder_generator import FolderGenerator
from tenshot.lightning_modules.guidance import ClassifierFreeGuidance, ClassifierGuidance
from tenshot.lightning_modules.mixdl import MixDL, Mixup
from tenshot.lightning_modules.noisy_classifier import NoisyClassifier
from tenshot.lightning_modules.piti import PITI
from tenshot.lightning_modules.piti_upsampler import PITIUpsampler
from tenshot.lightning_modules.regularization import Regularization
from tenshot.lightning_modules.sampler import Sampler
from tenshot.lightning_modules.stylegan2 import StyleGAN2
from tenshot.lightning_modules.super_resolution import SuperResolution
from tenshot.lightning_modules.upsampler_losses import PatchAdversary, Perceptual

__all__ = [
    "CDC",
    "DDPM",
    "DDPMPA",
    "PITI",
    "AdjustableGenerator",
    "Cascade",
    "CascadeStage",
    "ClassificationAccuracyScore",
    "ClassifierFreeGuidance",
    "ClassifierGuidance",
    "Correspondence",
    "DensePredictor",
    "FolderGenerator",
    "ImageGenerator",
    "LatentGenerator",
    "MixDL",
    "Mixup",
    "NoisyClassifier",
    "PITIUpsampler",
    "Pairwise",
    "PatchAdversary",
    "Perceptual",
    "Regularization",
    "Sampler",
    "StyleGAN2",
    "SuperResolution",
]
