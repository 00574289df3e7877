"""The architectures of GLIDE (arXiv 2112.10741) and of PITI (arXiv 2205.12952), in numbers."""

from dataclasses import dataclass, fields

from tenshot.errors import InputError, check_range
from tenshot.models.unet_config import UNetConfig

__all__ = ["ConditionConfig", "GlideConfig", "PITIConfig", "TextConfig"]


@dataclass(frozen=True)
class TextConfig:
    """Architecture of a text transformer.

    Args:
        length: Tokens of a text, padding among them.
        vocabulary: Different tokens; the last is the padding.
        width: Channels of a token.
        layers: Transformer blocks.
        heads: Attention heads.
    """

    length: int = 128
    vocabulary: int = 50257
    width: int = 512
    layers: int = 16
    heads: int = 8

    def __post_init__(self) -> None:
        _refuse("text", self, ("length", "vocabulary", "width", "layers", "heads"))


@dataclass(frozen=True)
class ConditionConfig:
    """Architecture of an encoder of condition images.

    Args:
        channels: Of the image: 3 for a colour map of classes, 1 for a sketch, 6 for normals and depth.
        size: Its side in pixels: grid times a power of two.
        grid: Side of the grid of tokens that it becomes.
        width: Channels of a token; a multiple of size / grid.
        layers: Transformer blocks.
        heads: Attention heads.
    """

    channels: int = 3
    size: int = 256
    grid: int = 16
    width: int = 512
    layers: int = 8
    heads: int = 8

    def __post_init__(self) -> None:
        _refuse("condition", self, ("channels", "size", "grid", "width", "layers", "heads"))
        factor = self.size // self.grid
        if factor * self.grid != self.size or factor & (factor - 1):
            raise InputError(
                f"condition_size {self.size} cannot be halved to condition_grid {self.grid}: make it that times a "
                "power of two"
            )
        if self.width % factor:
            raise InputError(
                f"context_channels {self.width} must be a multiple of condition_size / condition_grid, {factor}: "
                "change one of them"
            )

    @property
    def widths(self) -> list[int]:
        """Channels after each convolution that keeps the side or halves it, from the image on."""
        halvings = (self.size // self.grid).bit_length() - 1
        return [self.width >> (halvings - level) for level in range(halvings + 1)]


def _refuse(prefix: str, config: TextConfig | ConditionConfig, names: tuple[str, ...]) -> None:
    for name in names:
        check_range("context_channels" if name == "width" else f"{prefix}_{name}", getattr(config, name), 1)
    if config.width % config.heads:
        raise InputError(
            f"context_channels {config.width} cannot be split into {prefix}_heads {config.heads}: change one of them"
        )


@dataclass(frozen=True)
class Published(UNetConfig):
    """The U-Net of 64 px that the public GLIDE and the public PITI have in common."""

    image_size: int = 64
    channels: int = 192
    channel_mult: tuple[float, ...] = (1, 2, 3, 4)
    num_res_blocks: int = 3
    dropout: float = 0.1
    context_channels: int = 512


@dataclass(frozen=True)
class GlideConfig(Published):
    """A U-Net that draws from text, as the public GLIDE of 64 px; see :class:`UNetConfig` for its other fields.

    Args:
        inpaint: Whether it is also given the known part of an image, and where that is.
        text_length: Tokens of a text, padding among them.
        text_vocabulary: Different tokens; the last is the padding.
        text_layers: Transformer blocks; their width is context_channels.
        text_heads: Attention heads.
    """

    inpaint: bool = False
    text_length: int = 128
    text_vocabulary: int = 50257
    text_layers: int = 16
    text_heads: int = 8

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            InputError: Names the field, its value and the remedy.
        """
        super().__post_init__()
        _ = self.text

    @property
    def stem_channels(self) -> int:
        """Channels of all that the first convolution sees."""
        return super().stem_channels + (self.in_channels + 1 if self.inpaint else 0)

    @property
    def text(self) -> TextConfig:
        """The text transformer."""
        return TextConfig(
            self.text_length, self.text_vocabulary, self.context_channels, self.text_layers, self.text_heads
        )


@dataclass(frozen=True)
class PITIConfig(Published):
    """A U-Net that draws from a condition image, as the public PITI of 64 px; see :class:`UNetConfig` for the rest.

    Args:
        condition_channels: Of the condition image: 3 for a colour map of classes, 1 for a sketch, 6 for normals and
            depth.
        condition_size: Its side in pixels.
        condition_grid: Side of the grid of tokens that it becomes.
        condition_layers: Transformer blocks of its encoder; their width is context_channels.
        condition_heads: Attention heads.
        condition_input: Whether the condition image, at the size of the images, also goes into the first convolution
            (Palette, arXiv 2111.05826), which published models do not have: a network that knows no condition yet
            learns by it what lies where in a small part of the steps.
    """

    condition_channels: int = 3
    condition_size: int = 256
    condition_grid: int = 16
    condition_layers: int = 8
    condition_heads: int = 8
    condition_input: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            InputError: Names the field, its value and the remedy.
        """
        super().__post_init__()
        _ = self.condition

    @classmethod
    def of(cls, unet: UNetConfig, condition: ConditionConfig) -> "PITIConfig":
        """Such a network of a U-Net, of GLIDE or another that has a context, and an encoder of condition images.

        Raises:
            InputError: Their widths differ, or the U-Net inpaints.
        """
        if getattr(unet, "inpaint", False):
            raise InputError("PITI is given no known part of an image: take a U-Net that does not inpaint")
        if unet.context_channels != condition.width:
            raise InputError(
                f"a U-Net with context_channels {unet.context_channels} cannot see the {condition.width} channels of "
                "this condition encoder: take those that belong together"
            )
        told = {field.name: getattr(unet, field.name) for field in fields(UNetConfig)}
        names = ("channels", "size", "grid", "layers", "heads")
        encoder = {f"condition_{name}": getattr(condition, name) for name in names}
        return cls(**told, **encoder)

    @property
    def condition(self) -> ConditionConfig:
        """The encoder of the condition image."""
        return ConditionConfig(
            self.condition_channels, self.condition_size, self.condition_grid, self.context_channels,
            self.condition_layers, self.condition_heads,
        )  # fmt: skip
