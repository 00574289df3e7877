"""The ADM U-Net (Dhariwal & Nichol, arXiv 2105.05233) and its encoder half, shared with the classifier."""

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tenshot.errors import InputError, check_range
from tenshot.models.blocks import (
    Attention,
    AttentionOrder,
    Downsample,
    GroupNorm,
    Resample,
    ResBlock,
    Stage,
    TimeEmbedding,
    Upsample,
    down2,
    up2,
    zeroed,
)
from tenshot.models.fsdp import ShardedByStage
from tenshot.models.norm_act_conv import norm_act

__all__ = ["Encoder", "UNet", "UNetConfig"]


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
        checkpoint_blocks: Recompute each block in the backward pass: less memory, about a quarter more time.
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
        check_range("unet.low_res_channels", self.low_res_channels, 0)
        check_range("unet.dropout", self.dropout, 0, 1)
        if self.low_res_timestep and not self.low_res_channels:
            raise InputError(
                "unet.low_res_timestep is of a low-resolution condition, but unet.low_res_channels is 0: set both or "
                "neither"
            )
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

    def heads(self, width: int) -> int:
        """Attention heads at a level of that width."""
        return width // self.head_channels if self.head_channels else self.num_heads

    def attends(self, level: int) -> bool:
        """Whether that level, 0 the finest, has self-attention."""
        factors = {self.image_size // resolution for resolution in self.attention_resolutions}
        return 2**level in factors


def res_block(config: UNetConfig, channels: int, out_channels: int, resample: Resample | None = None) -> ResBlock:
    """A residual block with the options of the network."""
    embed_channels = 4 * config.channels
    return ResBlock(
        channels, out_channels, embed_channels, config.dropout, config.scale_shift, resample, config.norm_groups
    )


def attention(config: UNetConfig, channels: int) -> Attention:
    """A self-attention layer with the options of the network."""
    return Attention(channels, config.heads(channels), config.attention_order, config.norm_groups)


def run_stage(stage: nn.Module, x: Tensor, embedding: Tensor, recompute: bool) -> Tensor:
    """Apply a stage, keeping nothing inside it for the backward pass where asked."""
    if recompute and torch.is_grad_enabled():
        return cast(Tensor, checkpoint(stage, x, embedding, use_reentrant=False))
    return cast(Tensor, stage(x, embedding))


class Encoder(nn.Module):
    """The contracting half of the U-Net with its middle block."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width = config.widths[0]
        self.stem = nn.Conv2d(config.in_channels + config.low_res_channels, width, 3, padding=1)
        self.skip_channels = [width]
        self.stages = nn.ModuleList()
        for level, out in enumerate(config.widths):
            for _ in range(config.num_res_blocks):
                self.stages.append(
                    Stage(res_block(config, width, out), attention(config, out) if config.attends(level) else None)
                )
                width = out
                self.skip_channels.append(width)
            if level < len(config.widths) - 1:
                if config.resample == "resblock":
                    down: nn.Module = res_block(config, width, width, resample=down2)
                else:
                    down = Downsample(width, learned=config.resample == "conv")
                self.stages.append(Stage(down))
                self.skip_channels.append(width)
        self.middle = nn.ModuleList(
            [Stage(res_block(config, width, width), attention(config, width)), Stage(res_block(config, width, width))]
        )

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x: (N, C, H, W), embedding: (N, E) -> the middle block's features, and those of every stage before it."""
        recompute = self.config.checkpoint_blocks and self.training
        x = self.stem(x)
        skips = [x]
        for stage in self.stages:
            x = run_stage(stage, x, embedding, recompute)
            skips.append(x)
        for stage in self.middle:
            x = run_stage(stage, x, embedding, recompute)
        return x, skips


class UNet(ShardedByStage):
    """Predict the noise (and, with twice the channels, the variance) in a noisy image.

    A fresh network outputs exactly 0.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.time_embedding = TimeEmbedding(config.channels)
        self.class_embedding = nn.Embedding(config.num_classes, 4 * config.channels) if config.num_classes else None
        self.encoder = Encoder(config)
        skip_channels = list(self.encoder.skip_channels)
        width = skip_channels[-1]
        self.decoder = nn.ModuleList()
        for level, out in reversed(list(enumerate(config.widths))):
            for index in range(config.num_res_blocks + 1):
                block = res_block(config, width + skip_channels.pop(), out)
                up: nn.Module | None = None
                if level > 0 and index == config.num_res_blocks:
                    if config.resample == "resblock":
                        up = res_block(config, out, out, resample=up2)
                    else:
                        up = Upsample(out, learned=config.resample == "conv")
                self.decoder.append(Stage(block, attention(config, out) if config.attends(level) else None, up))
                width = out
        self.norm = GroupNorm(width, config.norm_groups)
        self.conv = zeroed(nn.Conv2d(width, config.out_channels, 3, padding=1))
        self.s_embedding = TimeEmbedding(config.channels) if config.low_res_timestep else None
        if self.s_embedding is not None:
            zeroed(self.s_embedding.fc2)  # at the start the network is the one that is not told s, to the last bit
        self.to(memory_format=torch.channels_last)

    def forward(
        self, x: Tensor, t: Tensor, label: Tensor | None = None, low_res: Tensor | None = None, s: Tensor | None = None
    ) -> Tensor:
        """One evaluation.

        Args:
            x: (N, C, H, W) noisy images; H and W multiples of 2 ** (levels - 1).
            t: (N,) timesteps of the process the network was trained with, integral or fractional.
            label: (N,) int64 classes, for a class-conditional network and only then.
            low_res: (N, C', H', W') images in [-1, 1], enlarged here if need be, for a super-resolution network alone.
            s: (N,) steps of noise in low_res, 0 for none, for a network with low_res_timestep and only then.

        Returns:
            (N, out_channels, H, W) in the dtype of x.

        Raises:
            InputError: A condition is missing or not wanted, or the size cannot be halved.
        """
        config = self.config
        halving = 2 ** (len(config.widths) - 1)
        if x.shape[-1] % halving or x.shape[-2] % halving:
            raise InputError(f"images of {tuple(x.shape[-2:])} cannot pass a U-Net that needs multiples of {halving}")
        wanted = (config.num_classes is not None, config.low_res_channels > 0, config.low_res_timestep)
        given = (label is not None, low_res is not None, s is not None)
        if wanted != given:
            pairs = zip(("label", "low_res", "s"), given, strict=True)
            told = ", ".join(f"{'with' if there else 'without'} {name}" for name, there in pairs)
            raise InputError(
                f"this U-Net has num_classes={config.num_classes}, low_res_channels={config.low_res_channels} and "
                f"low_res_timestep={config.low_res_timestep}, but was called {told}"
            )
        if low_res is not None:
            if low_res.shape[-2:] != x.shape[-2:]:
                low_res = F.interpolate(low_res, x.shape[-2:], mode="bilinear", align_corners=False)
            x = torch.cat([x, low_res.to(x.dtype)], dim=1)
        embedding = self.embed(t, label, s)
        h, skips = self.encoder(x.contiguous(memory_format=torch.channels_last), embedding)
        recompute = config.checkpoint_blocks and self.training
        for stage in self.decoder:
            h = run_stage(stage, torch.cat([h, skips.pop()], dim=1), embedding, recompute)
        with torch.autocast(x.device.type, enabled=False):  # the prediction itself in full precision
            h = norm_act(h.to(x.dtype), self.norm)
            return cast(Tensor, self.conv(h))

    def round_for_autocast(self, dtype: torch.dtype) -> None:
        """Round for good what autocast rounds at each call: half the memory, and forward passes are the same bits.

        Only for a network that is not trained, and runs under autocast to that dtype alone. Norms, embeddings and the
        last convolution stay as they are: they are computed outside of autocast.
        """
        for part in (*self.encoder.modules(), *self.decoder.modules()):
            if isinstance(part, nn.Conv2d):
                part.to(dtype)

    def embed(self, t: Tensor, label: Tensor | None, s: Tensor | None = None) -> Tensor:
        """The embedding that every residual block projects, after its SiLU: (N, 4 * channels) float32."""
        with torch.autocast(t.device.type, enabled=False):
            embedding = self.time_embedding(t)
            if self.class_embedding is not None:
                embedding = embedding + self.class_embedding(label)
            if self.s_embedding is not None:
                embedding = embedding + self.s_embedding(s)
            return F.silu(embedding)
