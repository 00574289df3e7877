"""A vision transformer (arXiv 2010.11929) that makes features of images, as DINOv2 and CLIP have it."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

__all__ = ["ViTConfig", "VisionTransformer"]

HEAD_CHANNELS = 64


@dataclass(frozen=True)
class ViTConfig:
    """What differs between these networks.

    Args:
        patches: Of 14 px, along a side.
        width: Channels of a token; attention has a head for each 64 of them.
        depth: Number of blocks.
        activation: ``quick_gelu`` is x sigmoid(1.702 x).
        layer_scale: Whether what a block adds is scaled by a weight for each channel.
        first_norm: Whether tokens are normalised before the first block; such networks have patches without a bias.
        eps: Of the normalisations.
        out_channels: Of a linear layer at the end; none: there is none.
    """

    patches: int
    width: int
    depth: int
    activation: Literal["gelu", "quick_gelu"]
    layer_scale: bool
    first_norm: bool
    eps: float
    out_channels: int | None = None


class VisionTransformer(nn.Module):
    """Images to the last state of the class token."""

    PATCH = 14

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width, self.side = config.width, config.patches * self.PATCH
        self.patch = nn.Conv2d(3, width, self.PATCH, self.PATCH, bias=not config.first_norm)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(1 + config.patches**2, width))
        self.first_norm = nn.LayerNorm(width, config.eps) if config.first_norm else nn.Identity()
        self.blocks = nn.ModuleList([_Block(config) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(width, config.eps)
        out = config.out_channels
        self.out = nn.Linear(width, out, bias=False) if out is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, side, side), normalised  ->  (N, width), or (N, out_channels)"""
        tokens = rearrange(self.patch(x), "n c h w -> n (h w) c")
        tokens = torch.cat([self.class_token.expand(len(x), 1, -1), tokens], dim=1) + self.positions
        tokens = self.first_norm(tokens)  # (N, 1 + patches², width)
        for block in self.blocks:
            tokens = block(tokens)
        return self.out(self.norm(tokens[:, 0]))


class _Block(nn.Module):
    """Attention, then two layers on each token."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.quick = width // HEAD_CHANNELS, config.activation == "quick_gelu"
        self.norm1, self.norm2 = nn.LayerNorm(width, config.eps), nn.LayerNorm(width, config.eps)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale1, self.scale2 = (nn.Parameter(torch.ones(width)) if config.layer_scale else None for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width)  ->  (N, T, width)"""
        q, k, v = rearrange(self.qkv(self.norm1(x)), "n t (three h c) -> three n h t c", three=3, h=self.heads)
        attended = rearrange(F.scaled_dot_product_attention(q, k, v), "n h t c -> n t (h c)")
        x = x + _scaled(self.proj(attended), self.scale1)
        hidden = self.fc1(self.norm2(x))
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self.quick else F.gelu(hidden)
        return x + _scaled(self.fc2(hidden), self.scale2)


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale
