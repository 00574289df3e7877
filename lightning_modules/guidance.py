"""Classifier guidance as part of a diffusion method's configuration (ADM, arXiv 2105.05233, section 4)."""

from dataclasses import dataclass

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tenshot.checkpoints import CLASSIFIER, Trained, read
from tenshot.diffusion import Denoiser, DiffusionConfig, Guided, classifier_guidance
from tenshot.errors import InputError, check_range
from tenshot.models import UNetClassifier, UNetConfig

__all__ = ["ClassifierGuidance", "FrozenClassifier"]


@dataclass(frozen=True)
class ClassifierGuidance:
    """Pull samples towards their classes by the gradient of a classifier of noisy images.

    Args:
        classifier: A run or checkpoint of NoisyClassifier, a file of tenshot convert, or a public guided-diffusion
            classifier.
        scale: Strength of the pull; 1 samples p(x | class) if both networks are perfect, more trades variety for
            fidelity.
    """

    classifier: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_range("--model.guidance.scale", self.scale)


class FrozenClassifier:
    """The classifier that guides a diffusion model.

    It is no module of the method, so that it is in neither its state_dict, its EMA, nor DDP's buckets.

    Args:
        config: Which, and how strongly it pulls.
        unet: The network it guides.
        diffusion: The process of that network.

    Raises:
        InputError: It cannot be read, or was not trained for such images, classes and noise.
    """

    def __init__(self, config: ClassifierGuidance, unet: UNetConfig, diffusion: DiffusionConfig) -> None:
        initial = read(config.classifier, CLASSIFIER)
        _refuse_unfit(initial, unet, diffusion)
        network = initial.fill("classifier", UNetClassifier(initial.config))
        self.network = network.eval().requires_grad_(False)
        self.path, self.num_classes = initial.path, initial.config.out_channels
        self.scale = config.scale
        rank_zero_info(f"{initial.path}: guided by {initial.origin}, scale {config.scale}")

    def guided(self, denoiser: Denoiser, labels: Tensor) -> Guided:
        """A denoiser that is pulled towards these classes: (N,) int64, on the device of the images."""
        with torch.inference_mode(False):  # weights moved in inference mode could not enter a graph
            self.network.to(labels.device)
        return Guided(denoiser, classifier_guidance(self.network, labels, self.scale))


def _refuse_unfit(classifier: Trained[UNetConfig], unet: UNetConfig, diffusion: DiffusionConfig) -> None:
    own = classifier.config
    pairs = [
        ("image_size", own.image_size, unet.image_size),
        ("in_channels", own.in_channels, unet.in_channels),
        ("classes", own.out_channels, unet.num_classes or own.out_channels),
    ]
    if classifier.diffusion is None:
        raise InputError(
            f"{classifier.path}: does not tell its noise process: tell tenshot convert, and guide with what it writes"
        )
    noise = ("num_steps", "schedule", "rescale_timesteps", "time")
    pairs += [(f"diffusion.{name}", getattr(classifier.diffusion, name), getattr(diffusion, name)) for name in noise]
    differ = [f"{name} {its} (the diffusion model: {ours})" for name, its, ours in pairs if its != ours]
    if differ:
        raise InputError(
            f"{classifier.path}: a classifier of other noisy images, with {', '.join(differ)}: give one of this kind "
            "with --model.guidance.classifier"
        )
