"""One condition image for all networks of a cascade, each of which was trained with its own size."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.datamodules.pairs import distance_map
from tenshot.errors import InputError
from tenshot.models import PITIConfig

__all__ = ["condition_config", "resized", "taken", "told_to"]


def condition_config(method: Any) -> PITIConfig | None:
    """Architecture of the network that says which condition images a method, or a cascade of methods, takes."""
    return taken(getattr(method, "generators", [method]))


def taken(generators: Sequence[Any]) -> PITIConfig | None:
    """Architecture of the network that takes the largest condition images, of those methods that draw from any."""
    drawing = [each for each in generators if getattr(each, "condition_name", None) == CONDITION_IMAGE]
    configs = [each.unet.config for each in drawing]
    return max(configs, key=lambda config: config.condition_size, default=None)


def told_to(generator: Any, condition: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A condition as a method was trained with it.

    Args:
        generator: The method.
        condition: Tensors by name; ``condition_image`` (N, C, S, S), uint8 or in [-1, 1].

    Returns:
        The same, whose condition image has the size that the method takes; without one where it draws from none.

    Raises:
        InputError: It takes larger ones.
    """
    told, config = dict(condition), taken([generator])
    image = told.pop(CONDITION_IMAGE, None)
    return told if image is None or config is None else told | {CONDITION_IMAGE: resized(image, config.condition_size)}


def resized(image: Tensor, size: int) -> Tensor:
    """Condition images of the side that a network takes.

    Colours are those of the nearest pixel, so that no class arises between two. A sketch, which has one channel, keeps
    each pixel that a line goes through, and its distances are counted anew.

    Args:
        image: (N, C, S, S), uint8 or in [-1, 1].
        size: The side.

    Raises:
        InputError: They are smaller.
    """
    there = image.shape[-1]
    if there == size:
        return image
    if there < size:
        raise InputError(
            f"condition images of {there} px, but the cascade takes them of {size} px: set --data.condition_size {size}"
        )
    if image.shape[1] > 1:
        nearest = ((torch.arange(size, device=image.device) + 0.5) * (there / size)).long()
        return image[:, :, nearest[:, None], nearest]
    lines = F.adaptive_max_pool2d((image == image.new_tensor(0 if image.dtype == torch.uint8 else -1)).float(), size)
    distances = distance_map(lines.cpu() > 0).to(image.device)
    return distances if image.dtype == torch.uint8 else (distances / 127.5 - 1).to(image.dtype)
