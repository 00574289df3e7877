"""The PatchGAN discriminator of pix2pix (arXiv 1611.07004), which judges patches of images; PITI's upsampler has it."""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from tenshot.errors import InputError

__all__ = ["PatchGANDiscriminator"]

WIDEST = 8


class PatchGANDiscriminator(nn.Module):
    """Judges patches of images that overlap, at the defaults of 70 x 70 pixels: pix2pix's ``NLayerDiscriminator``.

    Convolutions of 4 x 4, the first ``layers`` of stride 2, then two of stride 1; between them leaky ReLUs of slope
    0.2 and, but for the first and the last convolution, instance normalisation without weights. It computes in the
    type of its weights, also under autocast, since a gradient penalty differentiates it twice.

    Args:
        in_channels: Of the images.
        channels: After the first convolution; each further one doubles them, up to eightfold.
        layers: Convolutions of stride 2. One less suits images of half the size.
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.least = 3 << layers
        """Side of the smallest images, of which there is one logit."""
        widths = [channels * min(1 << number, WIDEST) for number in range(layers + 1)]
        network: list[nn.Module] = [_convolution(in_channels, channels, 2), nn.LeakyReLU(0.2)]
        for number, (narrow, wide) in enumerate(pairwise(widths), start=1):
            stride = 2 if number < layers else 1
            network += [_convolution(narrow, wide, stride), nn.InstanceNorm2d(wide), nn.LeakyReLU(0.2)]
        self.network = nn.Sequential(*network, _convolution(widths[-1], 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of patches, larger for real ones: (N, 1, h, w), h = H / 2 ** layers - 2; 30 at 256 px.

        images: (N, in_channels, H, W) in [-1, 1]

        Raises:
            InputError: The images are too small.
        """
        if min(images.shape[-2:]) < self.least:
            height, width = images.shape[-2:]
            raise InputError(
                f"images of {width} x {height} leave the patch discriminator nothing to judge: give it images of at "
                f"least {self.least} px, or fewer layers"
            )
        with torch.autocast(images.device.type, enabled=False):
            weight = cast(nn.Conv2d, self.network[0]).weight
            return cast(Tensor, self.network(images.to(weight.dtype)))


def _convolution(fan_in: int, fan_out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(fan_in, fan_out, kernel_size=4, stride=stride, padding=1)
