"""The classifier of noisy images that guides sampling (Dhariwal & Nichol, arXiv 2105.05233, section 4)."""

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.models.blocks import GroupNorm, TimeEmbedding, attend, zeroed
from tenshot.models.fsdp import ShardedByStage
from tenshot.models.norm_act_conv import norm_act
from tenshot.models.unet_config import UNetConfig
from tenshot.models.unet_encoder import Encoder

__all__ = ["AttentionPool", "UNetClassifier"]


class AttentionPool(nn.Module):
    """Attention from the mean of the feature map to all its pixels.

    Args:
        channels: Channels in; a multiple of ``head_channels``.
        num_outputs: Classes.
        side: Side of the feature map in pixels.
        head_channels: Channels a head.
    """

    def __init__(self, channels: int, num_outputs: int, side: int, head_channels: int) -> None:
        super().__init__()
        self.num_heads = channels // head_channels
        self.positional_embedding = nn.Parameter(torch.randn(channels, side**2 + 1) / channels**0.5)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, num_outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, side, side) -> (N, num_outputs)."""
        pixels = x.flatten(2)  # (N, C, L)
        tokens = torch.cat([pixels.mean(2, keepdim=True), pixels], dim=2) + self.positional_embedding.to(x.dtype)
        qkv = self.qkv(tokens[..., None]).squeeze(-1).transpose(1, 2)  # (N, L + 1, 3C)
        pooled = attend(qkv, self.num_heads, "new")[:, 0]  # (N, C)
        return cast(Tensor, self.proj(pooled[..., None, None])).flatten(1)


class UNetClassifier(ShardedByStage):
    """Encoder of the U-Net with a pooling head.

    Args:
        config: The encoder; ``out_channels`` is the number of classes. The public classifiers have 64-channel heads.
        pool: ``attention`` (all the public ones), with heads as wide as the encoder's, or ``adaptive``, the mean over
            pixels.

    Raises:
        InputError: An attention pool without ``head_channels``; or the encoder is to see a context.
    """

    def __init__(self, config: UNetConfig, pool: Literal["attention", "adaptive"] = "attention") -> None:
        super().__init__()
        if config.context_channels:
            raise InputError(
                f"classifier.context_channels is {config.context_channels}, but classifiers have none: leave it out"
            )
        self.config = config
        self.time_embedding = TimeEmbedding(config.channels)
        self.encoder = Encoder(config)
        width = config.widths[-1]
        self.norm = GroupNorm(width, config.norm_groups)
        self.pool: nn.Module
        if pool == "attention":
            side = config.image_size // 2 ** (len(config.widths) - 1)
            if config.head_channels is None:
                raise InputError("classifier.head_channels is not set: the attention pool needs the width of its heads")
            self.pool = AttentionPool(width, config.out_channels, side, config.head_channels)
        else:
            self.pool = zeroed(nn.Conv2d(width, config.out_channels, 1))
        self.mean_first = pool == "adaptive"
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (N, C, H, W) noisy images, t: (N,) timesteps -> logits (N, out_channels) in the dtype of x."""
        with torch.autocast(x.device.type, enabled=False):
            embedding = F.silu(self.time_embedding(t))
        h, _ = self.encoder(x.contiguous(memory_format=torch.channels_last), embedding)
        with torch.autocast(x.device.type, enabled=False):
            h = norm_act(h.to(x.dtype), self.norm)
            if self.mean_first:
                h = h.mean((2, 3), keepdim=True)
            return cast(Tensor, self.pool(h)).flatten(1)
