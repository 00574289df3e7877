"""What the shapes of the public ADM and Improved DDPM checkpoints do not tell.

One row an architecture of the releases (openai/guided-diffusion, openai/improved-diffusion; in the code of the former:
yandex-research/ddpm-segmentation, jychoi118/ilvr_adm, jychoi118/P2-weighting): what shapes do tell, to recognise a file
by, and the flags it was trained with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tenshot.errors import InputError
from tenshot.models.blocks import AttentionOrder

__all__ = ["CLASSIFIERS", "ZOO", "Classifier", "PublicModel", "named_of"]

Schedule = Literal["linear", "cosine"]


@dataclass(frozen=True)
class PublicModel:
    """Public checkpoints of one architecture and one noise process.

    Args:
        names: File names, without the suffix.
        image_size: Side of its images.
        channels: Base width.
        channel_mult: Level widths.
        num_res_blocks: Residual blocks a level.
        attention_resolutions: Sides of the feature maps with attention.
        num_heads: Heads, where head_channels is none.
        head_channels: Channels a head.
        attention_order: Layout of the attention projection.
        scale_shift: Adaptive group norm.
        resample: How the resolution changes.
        dropout: In training.
        num_classes: Labels.
        low_res: Whether it is a super-resolution model.
        schedule: Noise schedule.
        num_steps: Length of the diffusion process.
        rescale_timesteps: Whether the network expects timesteps scaled to 0 ... 1000.
    """

    names: tuple[str, ...]
    image_size: int
    channels: int
    channel_mult: tuple[float, ...]
    num_res_blocks: int
    attention_resolutions: tuple[int, ...] = (32, 16, 8)
    num_heads: int = 4
    head_channels: int | None = 64
    attention_order: AttentionOrder = "legacy"
    scale_shift: bool = True
    resample: str = "resblock"
    dropout: float = 0.0
    num_classes: int | None = None
    low_res: bool = False
    schedule: Schedule = "linear"
    num_steps: int = 1000
    rescale_timesteps: bool = False

    def agrees(self, other: "PublicModel") -> bool:
        """Whether its files are read like the other's: the same but for names, and for dropout, which a user sets."""
        return replace(self, names=other.names, dropout=other.dropout) == other


@dataclass(frozen=True)
class Classifier:
    """A public noisy classifier: encoder of width 128, attention pool, 1000 classes, 64-channel heads."""

    name: str
    image_size: int
    num_res_blocks: int
    channel_mult: tuple[float, ...]
    schedule: Schedule = "linear"


_MULT_64 = (1, 2, 3, 4)
_MULT_128 = (1, 1, 2, 3, 4)
_MULT_256 = (1, 1, 2, 2, 4, 4)
_MULT_512 = (0.5, 1, 1, 2, 2, 4, 4)


def _iddpm(
    names: tuple[str, ...],
    image_size: int,
    channels: int,
    channel_mult: tuple[float, ...],
    num_res_blocks: int,
    attention_resolutions: tuple[int, ...] = (16, 8),
    num_heads: int = 4,
    scale_shift: bool = True,
    dropout: float = 0.0,
    num_classes: int | None = None,
    low_res: bool = False,
    schedule: Schedule = "cosine",
    num_steps: int = 4000,
    rescale_timesteps: bool = True,
) -> PublicModel:
    """A row of the Improved DDPM release, with the defaults of that code."""
    return PublicModel(
        names, image_size, channels, channel_mult, num_res_blocks, attention_resolutions, num_heads, None, "legacy",
        scale_shift, "conv", dropout, num_classes, low_res, schedule, num_steps, rescale_timesteps,
    )  # fmt: skip


ZOO: tuple[PublicModel, ...] = (
    PublicModel(
        ("64x64_diffusion",), 64, 192, _MULT_64, 3,
        attention_order="new", dropout=0.1, num_classes=1000, schedule="cosine",
    ),
    PublicModel(("128x128_diffusion",), 128, 256, _MULT_128, 2, head_channels=None, num_classes=1000),
    PublicModel(("256x256_diffusion",), 256, 256, _MULT_256, 2, num_classes=1000),
    PublicModel(("256x256_diffusion_uncond", "lsun_horse_nodropout"), 256, 256, _MULT_256, 2),
    PublicModel(("lsun_bedroom", "lsun_cat", "lsun_horse", "ffhq"), 256, 256, _MULT_256, 2, dropout=0.1),
    PublicModel(
        (
            "ffhq_p2", "celebahq_p2", "cub_p2", "afhq_p2", "afhqdog_p2", "flower_p2", "metface_p2",
            "ffhq_baseline", "cub_baseline", "afhq_baseline", "flower_baseline", "metface_baseline",
            "ffhq_10m", "afhq_dog_4m",
        ),
        256, 128, _MULT_256, 1, (16,),
    ),
    PublicModel(("512x512_diffusion",), 512, 256, _MULT_512, 2, num_classes=1000),
    PublicModel(("64_256_upsampler",), 256, 192, _MULT_256, 2, head_channels=None, num_classes=1000, low_res=True),
    PublicModel(("128_512_upsampler",), 512, 192, _MULT_256, 2, (32, 16), num_classes=1000, low_res=True),
    _iddpm(
        ("imagenet64_uncond_100M_1500K", "imagenet64_uncond_vlb_100M_1500K"), 64, 128, _MULT_64, 3,
    ),
    _iddpm(("cifar10_uncond_50M_500K", "cifar10_uncond_vlb_50M_500K"), 32, 128, (1, 2, 2, 2), 3, dropout=0.3),
    _iddpm(
        ("imagenet64_cond_270M_250K",), 64, 192, _MULT_64, 3, num_classes=1000, rescale_timesteps=False,
    ),
    _iddpm(
        ("upsample_cond_500K",), 256, 192, _MULT_256, 2,
        num_classes=1000, low_res=True, schedule="linear", rescale_timesteps=False,
    ),
    _iddpm(
        tuple(f"lsun_uncond_100M_{run}" for run in ("1200K_bs128", "2400K_bs64")), 256, 128, _MULT_256, 2, (16,), 1,
        scale_shift=False, schedule="linear", num_steps=1000, rescale_timesteps=False,
    ),
)  # fmt: skip

CLASSIFIERS: tuple[Classifier, ...] = (
    Classifier("64x64_classifier", 64, 4, _MULT_64, "cosine"),
    Classifier("128x128_classifier", 128, 2, _MULT_128),
    Classifier("256x256_classifier", 256, 2, _MULT_256),
    Classifier("512x512_classifier", 512, 2, _MULT_512),
)


def named_of(models: Sequence[PublicModel], where: str) -> PublicModel | None:
    """Of public checkpoints of the same shapes the one of that file name, else the first; none of none.

    Raises:
        InputError: They differ in more than dropout, and the file is named like none of them.
    """
    found = [model for model in models if Path(where).stem in model.names] or models
    other = next((model for model in found if not model.agrees(found[0])), None)
    if other is not None:
        raise InputError(
            f"{where}: has the shapes of {found[0].names[0]} and of {other.names[0]}, which differ in what shapes do "
            "not tell: name the file like the one that it is"
        )
    return next(iter(found), None)
