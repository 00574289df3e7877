"""Guidance as part of a diffusion method's configuration: by a classifier of noisy images, and classifier-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tenshot.checkpoints import CLASSIFIER, Trained, read
from tenshot.diffusion import (
    ClassifierFree,
    Denoiser,
    DiffusionConfig,
    Guided,
    classifier_free_guidance,
    classifier_guidance,
    normalized_classifier_free_guidance,
)
from tenshot.diffusion.classifier_free import Combination
from tenshot.errors import InputError, check_range
from tenshot.losses.arithmetic import check_choice
from tenshot.models import UNetClassifier, UNetConfig

__all__ = ["ClassifierFreeGuidance", "ClassifierGuidance", "FrozenClassifier"]


@dataclass(frozen=True)
class ClassifierGuidance:
    """Pull samples towards their classes by the gradient of a classifier of noisy images (ADM, arXiv 2105.05233).

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


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Pull samples towards their condition and away from what is predicted without it (arXiv 2207.12598).

    Args:
        scale: Strength, of null + scale * (conditional - null); 1 is no guidance, at half the cost. The w of papers is
            scale - 1.
        normalize: Bring the guided noise back to the mean and the standard deviation of the conditional one (PITI,
            arXiv 2205.12952), of each ``image`` or of each ``channel`` of it; none: do not.
        analytic: With normalize, divide by the standard deviation that two independent predictions would have (PITI,
            section 3), not by the one that there is: it leaves too little of the noise.
        phi: With normalize, the part of the normalised noise; the rest is the plain one.
        interval: Guide only images with the noise of so many steps of the process, the least and the most, counted from
            1, as "[200, 800]"; none: all (arXiv 2404.07724).
    """

    scale: float = 1.0
    normalize: Literal["image", "channel"] | None = None
    analytic: bool = False
    phi: float = 1.0
    interval: tuple[int, int] | None = None

    def __str__(self) -> str:
        """In words, by both names of its strength."""
        how = f", normalised by {self.normalize}" if self.normalize else ""
        where = "" if self.interval is None else f", at steps {self.interval[0]} to {self.interval[1]}"
        return f"scale {self.scale:g} (w = {self.scale - 1:g}){how}{where}"

    def __post_init__(self) -> None:
        option = "--model.classifier_free"
        if not 1 <= self.scale < float("inf"):
            raise InputError(
                f"{option}.scale is {self.scale}: choose at least 1, which is no guidance (a w of papers is scale - 1)"
            )
        check_range(f"{option}.phi", self.phi, 0, 1)
        if self.normalize is not None:
            check_choice(f"{option}.normalize", self.normalize, Literal["image", "channel"])
        elif self.analytic or self.phi != 1:
            raise InputError(
                f"{option}.analytic and .phi are of normalised guidance: set .normalize image, or leave them out"
            )
        if self.interval is not None:
            object.__setattr__(self, "interval", tuple(self.interval))
            if len(self.interval) != 2 or not 1 <= self.interval[0] <= self.interval[1]:
                raise InputError(
                    f"{option}.interval is {list(self.interval)}: give the least and the most noise, in steps counted "
                    "from 1, such as [200, 800]"
                )

    def refuse_other_process(self, diffusion: DiffusionConfig) -> None:
        """Make sure that the interval lies in a process.

        Raises:
            InputError: It does not.
        """
        if self.interval is not None:
            check_range("--model.classifier_free.interval", self.interval[1], 1, diffusion.num_steps)

    def guided(self, denoiser: Denoiser, null: Mapping[str, Tensor]) -> ClassifierFree:
        """A denoiser that is pulled away from a null condition, a row an image."""
        combine: Combination = classifier_free_guidance
        if self.normalize is not None:
            per_channel = self.normalize == "channel"
            combine = partial(
                normalized_classifier_free_guidance, per_channel=per_channel, analytic=self.analytic, phi=self.phi
            )
        return ClassifierFree(denoiser, null, self.scale, combine, self.interval)


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
