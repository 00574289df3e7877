"""The architecture of StyleGAN2, of both networks."""

from dataclasses import dataclass

from tenshot.errors import InputError, check_range

__all__ = ["StyleGAN2Config"]


@dataclass(frozen=True)
class StyleGAN2Config:
    """What generator and discriminator share (arXiv 1912.04958, config F). Width at resolution r is channel_base / r.

    Args:
        image_size: Side of the images, a power of two from 8 on.
        channel_base: Width times resolution: 32768 is channel multiplier 2 of the PyTorch port, 16384 multiplier 1.
        max_channels: Widest layer.
        latent_dim: Length of z and of w.
        mapping_layers: Depth of the mapping network: 8 as published; 2 in the small-data settings of ADA.
        reduced_resolutions: How many of the highest resolutions compute in reduced precision under autocast; the
            others, the mapping network and the last layers of the discriminator stay in float32.
        mbstd_group_size: Images whose deviation the discriminator is shown: 4 as published; NVlabs' ADA code takes
            more for small images. 0 for the whole batch.
    """

    image_size: int = 256
    channel_base: int = 32768
    max_channels: int = 512
    latent_dim: int = 512
    mapping_layers: int = 8
    reduced_resolutions: int = 4
    mbstd_group_size: int = 4

    def __post_init__(self) -> None:
        if self.image_size < 8 or self.image_size & (self.image_size - 1):
            raise InputError(f"stylegan2.image_size is {self.image_size}: choose a power of two from 8 on")
        for name in ("channel_base", "max_channels", "latent_dim", "mapping_layers"):
            check_range(f"stylegan2.{name}", getattr(self, name), 1)
        check_range("stylegan2.reduced_resolutions", self.reduced_resolutions, 0)
        check_range("stylegan2.mbstd_group_size", self.mbstd_group_size, 0)
        if self.channel_base < self.image_size:
            raise InputError(
                f"stylegan2.channel_base is {self.channel_base}, less than one channel at {self.image_size} px: make "
                "it larger"
            )

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, … image_size."""
        return tuple(4 << i for i in range(self.image_size.bit_length() - 2))

    @property
    def num_layers(self) -> int:
        """Styled convolutions of the generator, each with a noise map: 2 log2(size) - 3."""
        return 2 * len(self.resolutions) - 1

    @property
    def num_styles(self) -> int:
        """Style inputs of the generator: 2 log2(size) - 2."""
        return 2 * len(self.resolutions)

    def width(self, resolution: int) -> int:
        """Channels at a resolution."""
        return min(self.channel_base // resolution, self.max_channels)
