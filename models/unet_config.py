"""The architecture of the ADM U-Net (Dhariwal & Nichol, arXiv 2105.05233), in numbers."""

from dataclasses import dataclass
from typing import Literal

from tenshot.errors import InputError, check_range
from tenshot.models.blocks import AttentionOrder

__all__ = ["UNetConfig"]


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a :class:`UNet`.

    Args:
        image_size: Side of the training images in pixels; with it attention_resolutions pick their levels.
        channels: Base width; a multiple of norm_groups.
        channel_mult: Width of each level, from the finest, as a multiple of the base width.
        num_res_blocks: Residual blocks a level in the encoder (the decoder has one more).
        attention_resolutions: Sides of the feature maps, in pixels, that get self-attention.
        num_heads: Attention heads, where head_channels is not given.
        head_channels: Channels a head; overrides num_heads.
        attention_order: Channel layout of the attention projection; a matter of how public weights were trained.
        scale_shift: Let the time embedding scale and shift the second norm of a block, instead of being added.
        resample: How the resolution changes: by a residual block (ADM), a convolution, or a plain mean and repetition.
        norm_groups: Groups of channels that group norm normalises together; 32 in all public models. A group of one
            channel loses its mean over the image, and so the colours of large areas: give narrow networks fewer.
        dropout: Dropout probability in the residual blocks.
        in_channels: Channels of the noisy image.
        out_channels: Channels predicted; twice in_channels where the variance is learned.
        low_res_channels: Channels of the low-resolution condition of a super-resolution model; 0 for none.
        low_res_timestep: Whether such a model is told s, the step of noise in its low-resolution condition.
        num_classes: Number of class labels; none for an unconditional model.
        null_class: One class more, the last, of images whose label the network is not told.
        checkpoint_blocks: Recompute each block in the backward pass: less memory, about a quarter more time.
        context_channels: Channels of the tokens, of a text or of an image, that attention sees beside the pixels
            (GLIDE, arXiv 2112.10741); 0 for none.
    """

    image_size: int = 256
    channels: int = 256
    channel_mult: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (32, 16, 8)
    num_heads: int = 4
    head_channels: int | None = 64
    attention_order: AttentionOrder = "legacy"
    scale_shift: bool = True
    resample: Literal["resblock", "conv", "mean"] = "resblock"
    norm_groups: int = 32
    dropout: float = 0.0
    in_channels: int = 3
    out_channels: int = 6
    low_res_channels: int = 0
    low_res_timestep: bool = False
    num_classes: int | None = None
    checkpoint_blocks: bool = False
    context_channels: int = 0
    null_class: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            InputError: Names the field, its value and the remedy.
        """
        # configurations come back from JSON and YAML with lists
        object.__setattr__(self, "channel_mult", tuple(self.channel_mult))
        object.__setattr__(self, "attention_resolutions", tuple(self.attention_resolutions))
        for name in (
            "image_size",
            "channels",
            "num_res_blocks",
            "num_heads",
            "norm_groups",
            "in_channels",
            "out_channels",
        ):
            check_range(f"unet.{name}", getattr(self, name), 1)
        for name in ("head_channels", "num_classes"):
            if getattr(self, name) is not None:
                check_range(f"unet.{name}", getattr(self, name), 1)
        for side in self.attention_resolutions:
            check_range("unet.attention_resolutions", side, 1)
        for mult in self.channel_mult:
            check_range("unet.channel_mult", mult)
        for name in ("low_res_channels", "context_channels"):
            check_range(f"unet.{name}", getattr(self, name), 0)
        check_range("unet.dropout", self.dropout, 0, 1)
        if self.low_res_timestep and not self.low_res_channels:
            raise InputError(
                "unet.low_res_timestep is of a low-resolution condition, but unet.low_res_channels is 0: set both or "
                "neither"
            )
        if self.null_class and self.num_classes is None:
            raise InputError("unet.null_class is of a network with classes: set unet.num_classes, or leave it out")
        halvings = len(self.channel_mult) - 1
        if halvings < 0 or self.image_size % 2**halvings:
            raise InputError(
                f"unet.image_size {self.image_size} cannot be halved {halvings} times: with {halvings + 1} levels in "
                f"unet.channel_mult it must be a multiple of {2 ** max(halvings, 0)}"
            )
        for level, width in enumerate(self.widths):
            if width % self.norm_groups or width <= 0:
                raise InputError(
                    f"unet.channels {self.channels} x channel_mult {self.channel_mult[level]} gives {width} channels: "
                    f"group norm needs a multiple of unet.norm_groups {self.norm_groups}"
                )
            attends = self.attends(level) or level == halvings  # the middle always does
            if attends and (width % self.head_channels if self.head_channels else width % self.num_heads):
                raise InputError(
                    f"{width} channels cannot be split into attention heads: unet.head_channels is "
                    f"{self.head_channels}, num_heads {self.num_heads}: change one of them"
                )

    @property
    def widths(self) -> list[int]:
        """Channels of each level, from the finest."""
        return [int(mult * self.channels) for mult in self.channel_mult]

    @property
    def stem_channels(self) -> int:
        """Channels of all that the first convolution sees."""
        return self.in_channels + self.low_res_channels

    def heads(self, width: int) -> int:
        """Attention heads at a level of that width."""
        return width // self.head_channels if self.head_channels else self.num_heads

    def attends(self, level: int) -> bool:
        """Whether that level, 0 the finest, has self-attention."""
        factors = {self.image_size // resolution for resolution in self.attention_resolutions}
        return 2**level in factors
