"""Few-shot adaptation of image generators.

``from tenshot import DDPM`` imports what is asked for, when it is asked for: ``import tenshot`` alone is quick.
"""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

__all__ = [
    "CDC",
    "DDPM",
    "DDPMPA",
    "EMA",
    "PITI",
    "Augmentation",
    "Blur",
    "Cascade",
    "CascadeStage",
    "ClassificationAccuracyScore",
    "ClassifierFreeGuidance",
    "ClassifierGuidance",
    "Correspondence",
    "Degradation",
    "DensePredictor",
    "DiffusionConfig",
    "FewShot",
    "FolderGenerator",
    "ImageFolder",
    "InputError",
    "LogNormalNoise",
    "LossWeighting",
    "LowResNoise",
    "MixDL",
    "Mixup",
    "NoisyClassifier",
    "PITIConfig",
    "PITIUpsampler",
    "Paired",
    "Pairwise",
    "PatchAdversary",
    "Perceptual",
    "Regularization",
    "SampleFolder",
    "Sampler",
    "StyleGAN2",
    "StyleGAN2Config",
    "SuperResolution",
    "SyntheticFaces",
    "UNetConfig",
    "__version__",
]

_HOME = {
    "Augmentation": "diffusion",
    "Blur": "diffusion",
    "EMA": "callbacks",
    "FewShot": "datamodules",
    "ImageFolder": "datamodules",
    "Paired": "datamodules",
    "SampleFolder": "datamodules",
    "SyntheticFaces": "datamodules",
    "Degradation": "diffusion.degradation",
    "DiffusionConfig": "diffusion",
    "InputError": "errors",
    "LogNormalNoise": "diffusion",
    "LossWeighting": "diffusion",
    "LowResNoise": "diffusion",
    "PITIConfig": "models",
    "StyleGAN2Config": "models",
    "UNetConfig": "models",
}
"""Where a name is from; the others are from ``lightning_modules``."""

if not (Path(__file__).parent / "errors").is_dir():
    raise ImportError(
        f"{Path(__file__).parent}: its links to the folders at the top of the repository are missing: clone with "
        "git -c core.symlinks=true clone (CONTRIBUTING.md)"
    )

if TYPE_CHECKING:
    from tenshot.callbacks import EMA
    from tenshot.datamodules import FewShot, ImageFolder, Paired, SampleFolder, SyntheticFaces
    from tenshot.diffusion import Augmentation, Blur, DiffusionConfig, LogNormalNoise, LossWeighting, LowResNoise
    from tenshot.diffusion.degradation import Degradation
    from tenshot.errors import InputError
    from tenshot.lightning_modules import (
        CDC,
        DDPM,
        DDPMPA,
        PITI,
        Cascade,
        CascadeStage,
        ClassificationAccuracyScore,
        ClassifierFreeGuidance,
        ClassifierGuidance,
        Correspondence,
        DensePredictor,
        FolderGenerator,
        MixDL,
        Mixup,
        NoisyClassifier,
        Pairwise,
        PatchAdversary,
        Perceptual,
        PITIUpsampler,
        Regularization,
        Sampler,
        StyleGAN2,
        SuperResolution,
    )
    from tenshot.models import PITIConfig, StyleGAN2Config, UNetConfig

    __version__: str
else:  # type checkers would take any name for one that there is

    def __getattr__(name: str) -> Any:
        """Import a public name from its home."""
        if name not in __all__:
            raise AttributeError(f"module 'tenshot' has no attribute {name!r}")
        if name == "__version__":
            return version("tenshot")
        return getattr(import_module(f"tenshot.{_HOME.get(name, 'lightning_modules')}"), name)


def __dir__() -> list[str]:
    """What can be asked for, and the modules that are imported already."""
    return sorted({*globals(), *__all__})
