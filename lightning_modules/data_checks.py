"""Whether the images that are trained on suit the network."""

from typing import Any

from tenshot.errors import InputError
from tenshot.models import UNetConfig

__all__ = ["check_channels", "check_image_size"]


def check_image_size(data: Any, size: int, option: str) -> None:
    """Make sure that images and network have one size.

    Args:
        data: The data module; one that tells no ``image_size`` passes.
        size: Side of the network's images in pixels.
        option: The option that sets it.

    Raises:
        InputError: They differ.
    """
    given = getattr(data, "image_size", None)
    if given is not None and given != size:
        raise InputError(
            f"pictures of {given} px (--data.image_size) for a network of {size} px ({option}): make them equal"
        )


def check_channels(config: UNetConfig, option: str) -> None:
    """Make sure that a network takes images of three channels, and nothing beside them.

    Args:
        config: Of the network.
        option: The option that sets it.

    Raises:
        InputError: It takes another number of channels, or a low-resolution image too.
    """
    for name, wanted in (("in_channels", 3), ("low_res_channels", 0)):
        if getattr(config, name) != wanted:
            raise InputError(
                f"{option}.{name} is {getattr(config, name)}, but the network is given RGB images alone: set {wanted}"
            )
