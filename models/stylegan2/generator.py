"""The generator of StyleGAN2: mapping network and synthesis network (arXiv 1912.04958, config F)."""

from collections.abc import Iterator, Sequence
from typing import Literal, cast, overload

import torch
from torch import Tensor, nn

from tenshot.models.stylegan2.config import StyleGAN2Config
from tenshot.models.stylegan2.fir import Resample
from tenshot.models.stylegan2.layers import EqualLinear, StyledConv, ToRGB, dtypes

__all__ = ["Noise", "StyleGAN2Generator"]

Noise = Literal["fixed", "none"] | Sequence[Tensor] | None
"""Of the styled convolutions: fresh maps (None), the stored ones, none at all, or a list of (N or 1, 1, r, r)."""


class StyleGAN2Generator(nn.Module):
    """Latent z, standard normal, to images in about [-1, 1], by way of w and of one style for each layer.

    Under autocast the highest ``config.reduced_resolutions`` resolutions compute in the autocast dtype, the rest and
    the sum of the images in the parameters' dtype.

    Args:
        config: The architecture.
    """

    const: nn.Parameter
    latent_average: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        dim = config.latent_dim
        self.mapper = nn.ModuleList(
            EqualLinear(dim, dim, lr_mul=0.01, activation=True) for _ in range(config.mapping_layers)
        )
        self.register_buffer("latent_average", torch.zeros(dim))
        self._resolutions = (4, *(side for side in config.resolutions[1:] for _ in range(2)))
        channels = config.width(4)
        self.const = nn.Parameter(torch.randn(1, channels, 4, 4))
        self.layers = nn.ModuleList()
        self.to_rgb = nn.ModuleList()
        for resolution in config.resolutions:
            width = config.width(resolution)
            if resolution > 4:
                self.layers.append(StyledConv(channels, width, dim, resolution, up=True))
            self.layers.append(StyledConv(width, width, dim, resolution, up=False))
            self.to_rgb.append(ToRGB(width, dim))
            channels = width
        self.upsample = Resample((2, 1), up=2)
        self.to(memory_format=torch.channels_last)

    @property
    def noise_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(1, r, r) of the noise map of each styled convolution."""
        return tuple((1, side, side) for side in self._resolutions)

    def mapping(self, z: Tensor) -> Tensor:
        """z: (N, D) -> w: (N, D)."""
        with torch.autocast(z.device.type, enabled=False):
            w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
            for layer in self.mapper:
                w = layer(w)
            return w

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """w: (..., D) moved towards the average latent: average + psi (w - average)."""
        return self.latent_average.lerp(w, psi)

    def broadcast(self, w: Tensor) -> Tensor:
        """w: (N, D) -> styles: (N, S, D), the same for each of the ``config.num_styles`` slots."""
        return w[:, None].expand(-1, self.config.num_styles, -1)

    def mix(self, w1: Tensor, w2: Tensor, cut: int) -> Tensor:
        """Styles (N, S, D) whose first ``cut`` slots come from w1 (N, D), the rest from w2 (N, D)."""
        return torch.cat([self.broadcast(w1)[:, :cut], self.broadcast(w2)[:, cut:]], dim=1)

    def forward(self, z: Tensor) -> Tensor:
        """z: (N, D) -> images (N, 3, H, W)."""
        return self.synthesis(self.broadcast(self.mapping(z)))

    @overload
    def synthesis(self, styles: Tensor, noise: Noise = None, features: Literal[False] = False) -> Tensor: ...
    @overload
    def synthesis(
        self, styles: Tensor, noise: Noise = None, *, features: Literal[True]
    ) -> tuple[Tensor, list[Tensor]]: ...
    def synthesis(
        self, styles: Tensor, noise: Noise = None, features: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Images, and what the layers before them saw.

        Args:
            styles: (N, S, D). Slot i serves styled convolution i; the 1x1 convolution to RGB shares the slot of the
                next styled convolution.
            noise: See :data:`Noise`.
            features: Whether to return the feature maps too.

        Returns:
            (N, 3, H, W) in the parameters' dtype; with ``features`` also the output of each styled convolution after
            noise, bias and activation, (N, C, r, r), in the dtype it was computed in.
        """
        precision = dtypes(self.config, self.const)
        with torch.autocast(styles.device.type, enabled=False):
            x = self.const.expand(len(styles), -1, -1, -1)
            maps, image = [], None
            for slot, (layer, noise_map) in enumerate(zip(self.layers, self._noise(noise, len(styles)), strict=True)):
                x = layer(x, styles[:, slot], noise_map, precision[self._resolutions[slot]])
                maps.append(x)
                if slot % 2 == 0:
                    addition = self.to_rgb[slot // 2](x, styles[:, slot + 1])
                    image = addition if image is None else addition + self.upsample(image)
        image = cast(Tensor, image)
        return (image, maps) if features else image

    def _noise(self, noise: Noise, batch: int) -> Iterator[Tensor | None]:
        """One map for each styled convolution, drawn when its turn comes."""
        if noise is None:
            yield from (self.const.new_empty(batch, *shape).normal_() for shape in self.noise_shapes)
        elif isinstance(noise, str):
            yield from (cast(StyledConv, layer).noise if noise == "fixed" else None for layer in self.layers)
        else:
            yield from noise
