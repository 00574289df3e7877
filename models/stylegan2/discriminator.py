"""The residual discriminator of StyleGAN2 (arXiv 1912.04958, config F), and the patch heads of CDC and MixDL on it."""

import math
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.models.stylegan2.config import StyleGAN2Config
from tenshot.models.stylegan2.layers import EqualConv, EqualLinear, dtypes

__all__ = ["PatchDiscriminator", "PatchHeads", "StyleGAN2Discriminator", "tap_resolution"]

NUM_TAPS = 4


def tap_resolution(config: StyleGAN2Config, asked: int | None = None) -> int:
    """Side of the first two of the four taps, the others have half of it.

    Args:
        config: Of the discriminator.
        asked: A power of two from 16 to half of the image's side: the published code's is 32 at any size. None: an
            eighth of the image's side, 32 at 256 px, but at least 16.

    Raises:
        InputError: There is no such layer.
    """
    if config.image_size < 32:
        raise InputError(
            f"stylegan2.image_size is {config.image_size}: patch heads need at least 32 px; choose a larger "
            "size or a method without patch heads"
        )
    if asked is None:
        return max(config.image_size // 8, 16)
    if asked not in config.resolutions or not 16 <= asked <= config.image_size // 2:
        raise InputError(
            f"tap_size is {asked}: at {config.image_size} px choose a power of two from 16 to {config.image_size // 2}"
        )
    return asked


def tap_channels(config: StyleGAN2Config, index: int, asked: int | None = None) -> int:
    """Channels of a tap, see :meth:`StyleGAN2Discriminator.tap`."""
    resolution = tap_resolution(config, asked)
    return config.width(resolution if index < 2 else resolution // 2)


class ResidualBlock(nn.Module):
    """Two convolutions, the second of which halves the resolution, and a 1x1 convolution as skip.

    Args:
        channels: Channels in.
        out_channels: Channels out.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualConv(channels, channels, 3)
        self.conv2 = EqualConv(channels, out_channels, 3, down=True)
        self.skip = EqualConv(channels, out_channels, 1, down=True, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H/2, W/2)."""
        half = math.sqrt(0.5)  # keeps the variance of the sum
        return cast(Tensor, self.conv2(self.conv1(x), half) + self.skip(x, half))


class StyleGAN2Discriminator(nn.Module):
    """Images in [-1, 1] to logits, positive for real.

    Under autocast the highest ``config.reduced_resolutions`` resolutions compute in the autocast dtype, the rest in
    the parameters' dtype.

    Args:
        config: The architecture.
    """

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        sides = config.resolutions[:0:-1]  # size, … 8
        self.from_rgb = EqualConv(3, config.width(config.image_size), 1)
        self.blocks = nn.ModuleList(ResidualBlock(config.width(side), config.width(side // 2)) for side in sides)
        width = config.width(4)
        self.final_conv = EqualConv(width + 1, width, 3)
        self.final_linear = EqualLinear(width * 16, width, activation=True)
        self.output = EqualLinear(width, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, batches: int = 1) -> Tensor:
        """Judge images.

        Args:
            x: (N, 3, H, W)
            batches: So many batches of equal size, one after another, are judged as if each came alone.

        Returns:
            Logits (N,).

        Raises:
            InputError: A batch does not split into groups of ``mbstd_group_size``.
        """
        return self.head(self.penultimate(x, batches))

    def penultimate(self, x: Tensor, batches: int = 1) -> Tensor:
        """x: (N, 3, H, W) -> activated output of the first linear layer (N, C), for :meth:`head` (and MixDL)."""
        count = len(x) // batches
        asked = self.config.mbstd_group_size
        group = min(count, asked or count)
        if count % group:
            raise InputError(
                f"--data.batch_size gives the discriminator {count} images: its minibatch standard deviation needs "
                f"at most {asked} or a multiple of {asked}"
            )
        precision = dtypes(self.config, self.output.weight)
        with torch.autocast(x.device.type, enabled=False):
            x = self._trunk(x, precision, len(self.blocks)).to(self.output.weight.dtype)
            deviation = torch.cat([minibatch_deviation(batch, group) for batch in x.split(count)])
            x = self.final_conv(torch.cat([x, deviation], dim=1))
            return cast(Tensor, self.final_linear(x.flatten(1)))

    def freeze(self, count: int) -> None:
        """Keep the weights of the first layers, from the images on: the convolution of the colours, then of each block
        both convolutions and its skip.

        Raises:
            InputError: There are not so many.
        """
        blocks = [cast(ResidualBlock, block) for block in self.blocks]
        layers = [self.from_rgb, *(layer for block in blocks for layer in (block.conv1, block.conv2, block.skip))]
        if count > len(layers):
            raise InputError(
                f"--model.freeze_d {count}: a discriminator of {self.config.image_size} px has {len(layers)} layers "
                "that can be frozen"
            )
        for layer in layers[:count]:
            layer.requires_grad_(False)

    def head(self, penultimate: Tensor) -> Tensor:
        """(N, C) from :meth:`penultimate` -> logits (N,)."""
        with torch.autocast(penultimate.device.type, enabled=False):
            return cast(Tensor, self.output(penultimate)).squeeze(1)

    def tap(self, x: Tensor, index: int, size: int | None = None) -> Tensor:
        """One of the four feature maps that CDC's patch heads read (arXiv 2104.06820), and nothing beyond it.

        With P of :func:`tap_resolution`, outputs inside the residual blocks, before the skip is added: 0, the second
        convolution of the block 2P -> P; 1 and 2, the first and second of P -> P/2; 3, the first of P/2 -> P/4.

        Args:
            x: (N, 3, H, W).
            index: 0 to 3.
            size: P; see :func:`tap_resolution`.

        Returns:
            (N, C, P, P) for 0 and 1, (N, C, P/2, P/2) for 2 and 3.
        """
        first = (self.config.image_size // tap_resolution(self.config, size)).bit_length() - 2
        number = first + (index + 1) // 2
        precision = dtypes(self.config, self.output.weight)
        with torch.autocast(x.device.type, enabled=False):
            x = self._trunk(x, precision, number)
            block = cast(ResidualBlock, self.blocks[number])
            x = block.conv1(x.to(precision[self._side(number)]))
            return cast(Tensor, x if index % 2 else block.conv2(x))

    def _side(self, number: int) -> int:
        """Resolution that a block reads."""
        return self.config.image_size >> number

    def _trunk(self, x: Tensor, precision: dict[int, torch.dtype], blocks: int) -> Tensor:
        """What the first blocks make of (N, 3, H, W)."""
        size = self.config.image_size
        if x.shape[1:] != (3, size, size):
            raise InputError(
                f"stylegan2.image_size is {size}, but the images are {tuple(x.shape[1:])}: set it to the size of "
                "the data"
            )
        x = self.from_rgb(x.to(precision[size], memory_format=torch.channels_last))
        for number in range(blocks):
            x = self.blocks[number](x.to(precision[self._side(number)]))
        return x


class PatchHeads(nn.Module):
    """Judges each place of the discriminator's inner feature maps: a 3x3 convolution for each of its four taps (arXiv
    2104.06820, section 3.2).

    As published its output passes a leaky ReLU with gain sqrt(2) too.

    Args:
        config: Architecture of the discriminator. Raises InputError below 32 px.
        taps: How many of the taps are ever judged at; the other heads are frozen.
        tap_size: Side of the first two taps; see :func:`tap_resolution`.
    """

    def __init__(self, config: StyleGAN2Config, taps: int = NUM_TAPS, tap_size: int | None = None) -> None:
        super().__init__()
        self.tap_size = tap_size
        self.heads = nn.ModuleList(EqualConv(tap_channels(config, index, tap_size), 1, 3) for index in range(NUM_TAPS))
        self.heads[taps:].requires_grad_(False)

    def forward(self, discriminator: StyleGAN2Discriminator, images: Tensor, index: int) -> Tensor:
        """Images (N, 3, H, W) and the number of a tap -> logits (N, 1, h, w)."""
        tap = discriminator.tap(images, index, self.tap_size)
        with torch.autocast(tap.device.type, enabled=False):
            head = cast(EqualConv, self.heads[index])
            return cast(Tensor, head(tap.to(head.weight.dtype)))


PatchDiscriminator = PatchHeads
"""Its earlier name."""


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """Standard deviation over groups of images, averaged to one number a group, as a feature map.

    Args:
        x: (N, C, H, W), N a multiple of ``group``; a group takes every (N / group)-th image.
        group: Images in a group.

    Returns:
        (N, 1, H, W)
    """
    n, _, height, width = x.shape
    members = rearrange(x, "(member group) c h w -> member group (c h w)", member=group)
    deviation = (members.var(0, unbiased=False) + 1e-8).sqrt().mean(1)  # (N / group,)
    return deviation.repeat(group)[:, None, None, None].expand(n, 1, height, width)
