"""What turns a text, or a condition image, into tokens for a U-Net: GLIDE's transformer and PITI's encoder."""

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.models.blocks import attend
from tenshot.models.glide.config import ConditionConfig, TextConfig

__all__ = ["ConditionEncoder", "TextTransformer", "TransformerBlock"]

EMBEDDING_STD = 0.02
"""Of fresh position, padding and class embeddings, which the public code leaves without values."""


class TransformerBlock(nn.Module):
    """Attention of all tokens to all, then a two-layer perceptron, each after a layer norm and with a residual.

    Args:
        width: Channels of a token.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, width) float32 -> (N, L, width) float32, under autocast too."""
        x = x + self.proj(attend(self.qkv(self.norm1(x)), self.heads, "legacy"))
        return cast(Tensor, x + self.fc2(F.gelu(self.fc1(self.norm2(x)))))


def transform(blocks: Iterable[nn.Module], norm: nn.Module, x: Tensor) -> Tensor:
    """(N, L, width) -> (N, L, width), through all blocks and the last norm."""
    for block in blocks:
        x = block(x)
    return cast(Tensor, norm(x))


class TextTransformer(nn.Module):
    """The text half of GLIDE (arXiv 2112.10741, section 3.1). No token is masked from another, padding neither."""

    names = ("tokens", "tokens_mask")
    """What it takes of a condition."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(EMBEDDING_STD * torch.randn(config.length, config.width))
        self.padding_embedding = nn.Parameter(EMBEDDING_STD * torch.randn(config.length, config.width))
        self.blocks = nn.ModuleList(TransformerBlock(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor, tokens_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode texts.

        Args:
            tokens: (N, length) int64, 0 ... vocabulary - 1.
            tokens_mask: (N, length) bool; where it is False stands a learned vector of that position instead.

        Returns:
            All tokens (N, width, length), and the last one, often padding, (N, width); float32.

        Raises:
            InputError: A text of another length.
        """
        if tokens.shape[1:] != (self.config.length,) or tokens_mask.shape != tokens.shape:
            raise InputError(
                f"tokens {tuple(tokens.shape)} and tokens_mask {tuple(tokens_mask.shape)}: both must be "
                f"(N, {self.config.length}), as the tokenizer gives them"
            )
        x = self.token_embedding(tokens) + self.positional_embedding
        x = torch.where(tokens_mask[..., None], x, self.padding_embedding)
        x = transform(self.blocks, self.norm, x)  # (N, length, width)
        return x.transpose(1, 2), x[:, -1]

    def null(self, count: int) -> dict[str, Tensor]:
        """No text at all, ``count`` times."""
        shape, device = (count, self.config.length), self.positional_embedding.device
        padding = torch.full(shape, self.config.vocabulary - 1, device=device)
        return {"tokens": padding, "tokens_mask": torch.zeros(shape, dtype=torch.bool, device=device)}


def as_input(condition_image: Tensor, dtype: torch.dtype) -> Tensor:
    """A condition image for a network: uint8 in [-1, 1], of this dtype; float as it is; any shape."""
    return condition_image.to(dtype) / 127.5 - 1 if condition_image.dtype == torch.uint8 else condition_image


class ConditionEncoder(nn.Module):
    """The condition half of PITI (arXiv 2205.12952): an image becomes a grid of tokens and one vector.

    Convolutions with instance norms halve its side down to that of the grid; then come transformer blocks, over the
    grid in raster order and, after it, a class token.
    """

    names = ("condition_image",)
    """What it takes of a condition."""

    def __init__(self, config: ConditionConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.convs = nn.ModuleList([nn.Conv2d(config.channels, widths[0], 7, padding=3)])
        self.convs.extend(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.InstanceNorm2d(width, affine=True) for width in widths)
        self.conv = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.class_token = nn.Parameter(EMBEDDING_STD * torch.randn(1, 1, config.width))
        self.positional_embedding = nn.Parameter(EMBEDDING_STD * torch.randn(1, config.grid**2 + 1, config.width))
        self.blocks = nn.ModuleList(TransformerBlock(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, condition_image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode condition images.

        Args:
            condition_image: (N, channels, size, size), uint8 or float in [-1, 1]; all ones mean no condition.

        Returns:
            The tokens of the grid (N, width, grid * grid), and the class token (N, width); float32.

        Raises:
            InputError: An image of other channels, or another size.
        """
        config = self.config
        if condition_image.shape[1:] != (config.channels, config.size, config.size):
            raise InputError(
                f"a condition image of {tuple(condition_image.shape[1:])} for a network that takes "
                f"{(config.channels, config.size, config.size)} (channels, height, width): masks have 3 channels, "
                "sketches 1, normals and depth 6"
            )
        x = as_input(condition_image, self.class_token.dtype).contiguous(memory_format=torch.channels_last)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x)  # under autocast of 16 bits, and normalised in float32
            x = F.leaky_relu(norm(x.to(self.class_token.dtype)), 0.2)
        x = self.conv(x).flatten(2).transpose(1, 2) + self.positional_embedding[:, 1:]  # (N, grid * grid, width)
        class_token = (self.class_token + self.positional_embedding[:, :1]).expand(len(x), -1, -1)
        x = transform(self.blocks, self.norm, torch.cat([x, class_token], dim=1))
        return x[:, :-1].transpose(1, 2), x[:, -1]

    def null(self, count: int) -> dict[str, Tensor]:
        """No condition, ``count`` times: a white image."""
        config = self.config
        white = torch.ones(count, config.channels, config.size, config.size, device=self.class_token.device)
        return {"condition_image": white}
