"""Whether the images that are trained on suit the network."""

from typing import Any

from tenshot.errors import InputError
from tenshot.models import UNetConfig

__all__ = ["check_image_size", "check_images"]


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
            f"images of {given} px (--data.image_size) for a network of {size} px ({option}): make them equal"
        )


def check_images(data: Any, config: UNetConfig, option: str, low_res_channels: int = 0) -> None:
    """Make sure that the images that are trained on suit a network.

    Args:
        data: The data module; what it does not tell passes.
        config: Of the network.
        option: The option that sets it.
        low_res_channels: Of the low-resolution images that it is given besides.

    Raises:
        InputError: The network takes another number of channels, a low-resolution image or none, a context, another
            size, or labels that the data do not have, or fewer classes than they have.
    """
    given = "RGB images and low-resolution ones" if low_res_channels else "RGB images alone"
    for name, wanted in (("in_channels", 3), ("low_res_channels", low_res_channels), ("context_channels", 0)):
        if getattr(config, name) != wanted:
            raise InputError(
                f"{option}.{name} is {getattr(config, name)}, but the network is given {given}: set {wanted}"
            )
    check_image_size(data, config.image_size, f"{option}.image_size")
    classes = getattr(data, "num_classes", None)
    if config.num_classes is not None and (classes is None or classes > config.num_classes):
        raise InputError(
            f"the network has {config.num_classes} classes, the data {classes or 'no labels'}: set --data.labels true "
            f"and {option}.num_classes to their number"
        )
