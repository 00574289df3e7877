"""The patch heads of CDC and MixDL: convolutions that judge each place of the discriminator's inner feature maps."""

from typing import cast

import torch
from torch import Tensor, nn

from tenshot.models.stylegan2.config import StyleGAN2Config
from tenshot.models.stylegan2.discriminator import NUM_TAPS, tap_channels
from tenshot.models.stylegan2.layers import EqualConv

__all__ = ["PatchDiscriminator"]


class PatchDiscriminator(nn.Module):
    """One 3x3 convolution for each of the discriminator's four taps (arXiv 2104.06820, section 3.2).

    As published its output passes a leaky ReLU with gain sqrt(2) too.

    Args:
        config: Architecture of the discriminator. Raises InputError below 32 px.
        tap_size: Side of the first two taps; see :func:`tap_resolution`.
    """

    def __init__(self, config: StyleGAN2Config, tap_size: int | None = None) -> None:
        super().__init__()
        self.heads = nn.ModuleList(EqualConv(tap_channels(config, index, tap_size), 1, 3) for index in range(NUM_TAPS))

    def forward(self, tap: Tensor, index: int) -> Tensor:
        """Feature map (N, C, h, w) of :meth:`StyleGAN2Discriminator.tap` and its number -> logits (N, 1, h, w)."""
        with torch.autocast(tap.device.type, enabled=False):
            head = cast(EqualConv, self.heads[index])
            return cast(Tensor, head(tap.to(head.weight.dtype)))
