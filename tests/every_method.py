"""Each training method once, with tiny networks and all its terms within a few steps."""

from collections.abc import Callable
from pathlib import Path

import tiny
import tiny_piti
import tiny_stages
import tiny_upsampler
from lightning.pytorch import LightningModule

from tenshot.callbacks import StepCheckpoint
from tenshot.datamodules import SyntheticFaces
from tenshot.diffusion import Augmentation, Blur
from tenshot.lightning_modules import CDC, DDPMPA, Correspondence, MixDL, Mixup, Regularization
from tenshot.models.augmentation import AdaptiveAugment, DiffAugment

OFTEN = Regularization(r1_every=2, path_length_every=3)
SOURCE_STEPS = 1
SMALL = tiny.unet_config(**tiny.SMALL)


def sources(folder: Path) -> Path:
    """The models that methods adapt: ``ddpm.ckpt`` and ``gan.ckpt`` in the folder."""
    for name, module in (("ddpm", tiny.ddpm()), ("gan", tiny.gan())):
        data = tiny.faces(image_size=32 if name == "gan" else 16)
        tiny.trainer(folder / name, SOURCE_STEPS, StepCheckpoint()).fit(module, data)
        (folder / name / "checkpoints" / f"step={SOURCE_STEPS:08}.ckpt").rename(folder / f"{name}.ckpt")
    return folder


def _ddpm_pa(folder: Path) -> DDPMPA:
    module = DDPMPA(init_from=str(folder / "ddpm.ckpt"), collapse_every_n_steps=0, optimizer=tiny.adam(1e-3))
    module.configure_model()
    return module


METHODS: dict[str, Callable[[Path], LightningModule]] = {
    "DDPM": lambda folder: tiny.randomised(tiny.ddpm(timesteps="loss_aware")),
    "DDPMPA": _ddpm_pa,
    "NoisyClassifier": lambda folder: tiny.randomised(tiny.classifier()),
    "DensePredictor": lambda folder: tiny.randomised(tiny_piti.predictor()),
    "SuperResolution": lambda folder: tiny.randomised(
        tiny_stages.stage(unet=SMALL, augmentation=Augmentation(tiny_stages.NOISY.noise, Blur()))
    ),
    "PITI": lambda folder: tiny.randomised(
        tiny_piti.piti(piti=tiny_piti.TINY, condition_drop=0.5, timesteps="loss_aware")
    ),
    "PITIUpsampler": lambda folder: tiny.randomised(tiny_upsampler.upsampler()),
    "StyleGAN2": lambda folder: tiny.gan(regularization=OFTEN),
    "StyleGAN2, ADA": lambda folder: tiny.gan(regularization=OFTEN, augmentation=AdaptiveAugment(images_to_full=100)),
    "StyleGAN2, DiffAugment": lambda folder: tiny.gan(regularization=OFTEN, augmentation=DiffAugment()),
    "CDC": lambda folder: tiny.gan(
        CDC, init_from=str(folder / "gan.ckpt"), regularization=OFTEN, correspondence=Correspondence(image_every=2)
    ),
    "MixDL": lambda folder: tiny.gan(MixDL, regularization=OFTEN, mixup=Mixup()),
}  # fmt: skip


def is_gan(method: str) -> bool:
    """Whether it trains a generator against a discriminator."""
    return method.startswith(("StyleGAN2", "CDC", "MixDL"))


def data_for(method: str) -> SyntheticFaces:
    """Images that the method can be trained with."""
    if method.startswith(("PITI", "DensePredictor")):
        return tiny_piti.pairs()
    return tiny.faces(image_size=32) if is_gan(method) else tiny.faces(labels=method == "NoisyClassifier")
