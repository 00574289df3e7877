"""The building blocks of the ADM U-Net (Dhariwal & Nichol, arXiv 2105.05233): residual block, attention, resampling.

Feature maps are (N, C, H, W) in channels_last memory: convolutions are fastest there on CPUs and on tensor cores, and
attention reads its tokens (N, H*W, C) without a copy.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.models.norm_act_conv import norm_act, norm_act_conv

__all__ = [
    "Attention",
    "AttentionOrder",
    "Downsample",
    "GroupNorm",
    "ResBlock",
    "Resample",
    "Stage",
    "TimeEmbedding",
    "Upsample",
    "attend",
    "down2",
    "split_heads",
    "up2",
    "zeroed",
]

AttentionOrder = Literal["legacy", "new"]
M = TypeVar("M", bound=nn.Module)
Resample = Callable[[Tensor], Tensor]


def zeroed(module: M) -> M:
    """Zero the parameters of a layer that must contribute nothing at initialisation."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def down2(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H/2, W/2), mean of each 2x2 block."""
    if x.is_cuda and x.shape[2] % 2 == x.shape[3] % 2 == 0 and not torch.compiler.is_compiling():
        return cast(Tensor, _Mean2.apply(x))
    return F.avg_pool2d(x, 2)


class _Mean2(torch.autograd.Function):
    """``F.avg_pool2d(x, 2)`` of even sides, whose gradient is repeated: the library's kernel for it is slow on GPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return up2(0.25 * grad)


def up2(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W), each pixel repeated; in the dtype of x, where autocast on CUDA takes float32."""
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


class GroupNorm(nn.GroupNorm):
    """Group normalisation with ADM's eps 1e-5."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(groups, channels, eps=1e-5)


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the timestep, cosines first, and its two-layer perceptron; always float32.

    Args:
        channels: Width of the sinusoidal part; the result has four times as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, t: Tensor) -> Tensor:
        """t: (N,) timesteps, integral or fractional -> (N, 4 * channels)."""
        half = self.channels // 2
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t.float()[:, None] * torch.exp(-math.log(10_000.0) / half * steps)  # (N, half)
        embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
        embedding = F.pad(embedding, (0, self.channels % 2)).to(self.fc1.weight.dtype)
        return cast(Tensor, self.fc2(F.silu(self.fc1(embedding))))


class ResBlock(nn.Module):
    """Residual block with the embedding as scale and shift of its second norm (or added before it).

    Args:
        channels: Channels in.
        out_channels: Channels out.
        embed_channels: Width of the time (and class) embedding.
        dropout: Probability of dropping an activation before the second convolution, in training.
        scale_shift: Adaptive group norm, ``norm(h) * (1 + scale) + shift``; otherwise ``norm(h + shift)``.
        resample: Halves or doubles the resolution, between the first activation and its convolution and on the skip.
        groups: Of channels that are normalised together.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        embed_channels: int,
        dropout: float = 0.0,
        scale_shift: bool = True,
        resample: Resample | None = None,
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.dropout, self.scale_shift, self.resample = dropout, scale_shift, resample
        self.norm1 = GroupNorm(channels, groups)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.embed = nn.Linear(embed_channels, 2 * out_channels if scale_shift else out_channels)
        self.norm2 = GroupNorm(out_channels, groups)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x: (N, C, H, W), embedding: (N, E) after its SiLU, float32 -> (N, out_channels, H', W')."""
        if self.resample is None:
            h = norm_act_conv(x, self.norm1, self.conv1)
        else:
            h, x = self.conv1(self.resample(norm_act(x, self.norm1))), self.resample(x)
        with torch.autocast(x.device.type, enabled=False):
            modulation = self.embed(embedding)
        if not self.scale_shift:
            h = h + modulation.to(h.dtype)[:, :, None, None]
            modulation = None
        if self.dropout and self.training:
            h = self.conv2(F.dropout(norm_act(h, self.norm2, modulation), self.dropout))
        else:
            h = norm_act_conv(h, self.norm2, self.conv2, modulation)
        return cast(Tensor, self.skip(x)) + h


def split_heads(x: Tensor, parts: int, num_heads: int, order: AttentionOrder) -> tuple[Tensor, ...]:
    """Take a joint projection of tokens, as queries, keys and values, apart.

    Args:
        x: (N, L, parts * C); its channels split into heads first, then parts (``legacy``), or the other way (``new``).
        parts: How many projections are in one.
        num_heads: Number of heads; must divide C.
        order: Which of the two layouts the weights were trained with; the shapes do not tell.

    Returns:
        Each part (N, heads, L, C / heads).
    """
    n, length, _ = x.shape
    if order == "legacy":
        return x.view(n, length, num_heads, parts, -1).permute(3, 0, 2, 1, 4).unbind()
    return x.view(n, length, parts, num_heads, -1).permute(2, 0, 3, 1, 4).unbind()


def attend(qkv: Tensor, num_heads: int, order: AttentionOrder, context_kv: Tensor | None = None) -> Tensor:
    """Multi-head attention over tokens, and over those of a context beside them: one softmax over both.

    Args:
        qkv: (N, L, 3C), see :func:`split_heads`.
        num_heads: Number of heads; must divide C.
        order: Layout of the channels.
        context_kv: (N, M, 2C) keys and values of a context, in the same layout; their place is before those of qkv.

    Returns:
        (N, L, C)
    """
    q, k, v = split_heads(qkv, 3, num_heads, order)
    if context_kv is not None:
        context_k, context_v = split_heads(context_kv.to(qkv.dtype), 2, num_heads, order)
        k, v = torch.cat([context_k, k], dim=2), torch.cat([context_v, v], dim=2)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Self-attention over all pixels, with a residual connection; where there is a context, over its tokens too.

    Args:
        channels: Channels in and out.
        num_heads: Number of heads.
        order: Channel layout of the joint projections, see :func:`split_heads`.
        groups: Of channels that are normalised together.
        context_channels: Channels of the context's tokens; 0 for none.
    """

    kv_channels = slice(None)
    """Which channels of ``context_kv``, where it holds those of several layers, are of this one."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        order: AttentionOrder = "legacy",
        groups: int = 32,
        context_channels: int = 0,
    ) -> None:
        super().__init__()
        self.num_heads, self.order = num_heads, order
        self.norm = GroupNorm(channels, groups)
        # 1x1 convolutions, not linear layers: on CPUs their channels_last kernels are twice as fast.
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.context_kv = nn.Conv1d(context_channels, 2 * channels, 1) if context_channels else None
        self.proj = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, context: Tensor | None = None, context_kv: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W).

        Args:
            x: Features.
            context: (N, context_channels, L) tokens.
            context_kv: Or the keys and values of such, (N, K, L), those of this layer at ``kv_channels``.
        """
        n, c, height, width = x.shape
        kv = None if context_kv is None else context_kv[:, self.kv_channels]
        if context is not None and self.context_kv is not None:
            kv = self.context_kv(context)
        qkv = self.qkv(norm_act(x, self.norm, activation=False))
        tokens = qkv.permute(0, 2, 3, 1).reshape(n, height * width, 3 * c)
        tokens = attend(tokens, self.num_heads, self.order, None if kv is None else kv.transpose(1, 2))
        return x + cast(Tensor, self.proj(tokens.view(n, height, width, c).permute(0, 3, 1, 2)))


class Downsample(nn.Module):
    """Halve the resolution by a strided convolution or by a plain mean; ignores the embedding."""

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if learned else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H/2, W/2)."""
        return down2(x) if self.conv is None else cast(Tensor, self.conv(x))


class Upsample(nn.Module):
    """Double the resolution by repetition, then a convolution if learned; ignores the embedding."""

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if learned else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W)."""
        return cast(Tensor, self.conv(up2(x)))


class Stage(nn.Module):
    """A residual block, its attention, and in the decoder the upsampling that ends a level."""

    def __init__(self, block: nn.Module, attention: nn.Module | None = None, upsample: nn.Module | None = None) -> None:
        super().__init__()
        self.block, self.attention, self.upsample = block, attention, upsample

    def forward(
        self, x: Tensor, embedding: Tensor, context: Tensor | None = None, context_kv: Tensor | None = None
    ) -> Tensor:
        """x: (N, C, H, W), embedding: (N, E) -> (N, C', H', W'); context and context_kv are for the attention."""
        x = self.block(x, embedding)
        if self.attention is not None:
            x = self.attention(x, context, context_kv)
        return x if self.upsample is None else cast(Tensor, self.upsample(x, embedding))
