"""Whether the images that are trained on suit the network."""

from typing import Any

from tenshot.errors import InputError
from tenshot.models import PITIConfig, UNetConfig

__all__ = ["check_condition_images", "check_image_size", "check_images"]


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


def check_images(
    data: Any, config: UNetConfig, option: str, low_res_channels: int = 0, context_channels: int = 0
) -> None:
    """Make sure that the images that are trained on suit a network.

    Args:
        data: The data module; what it does not tell passes.
        config: Of the network.
        option: The option that sets it.
        low_res_channels: Of the low-resolution images that it is given besides.
        context_channels: Of the tokens that it is given besides.

    Raises:
        InputError: The network takes another number of channels, a low-resolution image or none, a context, another
            size, or labels that the data do not have, or fewer classes than they have.
    """
    given = "RGB images and low-resolution ones" if low_res_channels else "RGB images alone"
    for name, wanted in (
        ("in_channels", 3),
        ("low_res_channels", low_res_channels),
        ("context_channels", context_channels),
    ):
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


def check_condition_images(data: Any, config: PITIConfig) -> None:
    """Make sure that the data have condition images that suit a network.

    Args:
        data: The data module; none passes.
        config: Of the network.

    Raises:
        InputError: There are none, or they have other channels or another size.
    """
    if data is None:
        return
    channels = getattr(data, "condition_channels", None)
    if channels is None:
        raise InputError(
            "the data have no condition images, which PITI learns to draw from: take --data Paired, or --data "
            "SyntheticFaces with --data.pairs mask"
        )
    if channels != config.condition_channels:
        raise InputError(
            f"condition images with {channels} channels for a network of {config.condition_channels} "
            "(--model.piti.condition_channels): masks, depth and normals have 3, sketches 1, geometry 6: "
            "make them equal"
        )
    size = getattr(data, "condition_size", None)
    if size is not None and size != config.condition_size:
        raise InputError(
            f"condition images of {size} px (--data.condition_size) for a network that takes {config.condition_size} "
            "(--model.piti.condition_size): make them equal"
        )
