"""The transforms of ADA's published pipeline and the matrices they amount to (arXiv 2006.06676, appendix B)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tenshot.errors import InputError, did_you_mean

__all__ = ["COLOR", "GEOMETRY", "color_matrices", "draw", "geometry_matrices", "selected_transforms"]


@dataclass(frozen=True)
class Transform:
    """How the strength of a transform is drawn. With strength 0 nothing happens.

    Args:
        law: ``steps``: 0, 1, …, spread - 1 alike; ``uniform`` from -spread to spread; ``normal``: spread is the
            standard deviation.
        spread: As above.
        numbers: How many strengths an image has.
        chances: 1 where they come together or not at all. Otherwise each comes by itself, at least one with the
            probability of a transform.
    """

    law: Literal["steps", "uniform", "normal"]
    spread: float
    numbers: int = 1
    chances: int = 1


GROUPS: dict[str, dict[str, Transform]] = {
    "b": {  # blits
        "xflip": Transform("steps", 2),
        "rotate90": Transform("steps", 4),  # quarter turns
        "xint": Transform("uniform", 1 / 8, numbers=2),  # x and y as a part of the side, to be rounded to pixels
    },
    "g": {  # geometry
        "scale": Transform("normal", 0.2),  # base-2 logarithm
        "rotate": Transform("uniform", math.pi, numbers=2, chances=2),  # before aniso and after it
        "aniso": Transform("normal", 0.2),  # base-2 logarithm of the scale of x, and of the inverse of that of y
        "xfrac": Transform("normal", 1 / 8, numbers=2),  # x and y as a part of the side
    },
    "c": {  # colour
        "brightness": Transform("normal", 0.2),  # is added
        "contrast": Transform("normal", 0.5),  # base-2 logarithm
        "lumaflip": Transform("steps", 2),
        "hue": Transform("uniform", math.pi),
        "saturation": Transform("normal", 1.0),  # base-2 logarithm
    },
}
GEOMETRY = (*GROUPS["b"], *GROUPS["g"])
COLOR = tuple(GROUPS["c"])
TRANSFORMS = {name: transform for group in GROUPS.values() for name, transform in group.items()}


def selected_transforms(transforms: str | Sequence[str]) -> tuple[str, ...]:
    """Names of transforms, from letters of groups in one word such as ``bgc`` or from the names themselves, checked."""
    if isinstance(transforms, str) and transforms and not set(transforms) - set(GROUPS):
        return tuple(name for group in GROUPS if group in transforms for name in GROUPS[group])
    for name in (transforms,) if isinstance(transforms, str) else transforms:
        if isinstance(transforms, str) or name not in TRANSFORMS:
            raise InputError(
                f"AdaptiveAugment.transforms has {name!r}{did_you_mean(name, TRANSFORMS)}: give letters of 'bgc' as "
                f"one word, or a list with some of {', '.join(TRANSFORMS)}"
            )
    if not transforms:
        raise InputError("AdaptiveAugment.transforms is empty: 'bgc' is the published choice")
    return tuple(transforms)


def draw(names: Sequence[str], count: int, probability: Tensor | float, device: torch.device) -> dict[str, Tensor]:
    """Strengths of these transforms for so many images: (count, numbers) each, 0 where a transform is not applied.

    Args:
        names: Of transforms.
        count: Number of images.
        probability: That a transform is applied to an image, for each by itself; a tensor () on the device.
        device: Of the strengths.
    """
    strengths = {}
    for name in names:
        transform = TRANSFORMS[name]
        if transform.law == "normal":
            strength = torch.randn(count, transform.numbers, device=device) * transform.spread
        else:
            strength = torch.rand(count, transform.numbers, device=device)
            if transform.law == "steps":
                strength = (strength * transform.spread).floor()
            else:
                strength = (2 * strength - 1) * transform.spread
        chance = 1 - (1 - probability) ** (1 / transform.chances)
        applied = torch.rand(count, transform.chances, device=device) < chance
        strengths[name] = strength * applied
    return strengths


def geometry_matrices(strengths: Mapping[str, Tensor], height: int, width: int) -> Tensor:
    """The blits and the geometric transforms as one matrix, from output to input.

    Applied to an image are, in this order: flip, quarter turns, translation by pixels, scale, rotation, anisotropic
    scale, rotation, translation.

    Args:
        strengths: From :func:`draw`; those that are missing are 0.
        height: Of the images.
        width: Of the images.

    Returns:
        (N, 2, 3), as :func:`tenshot.models.augmentation.warp.warp` takes them.
    """
    none = torch.zeros_like(next(iter(strengths.values()))[:, :1])  # (N, 1)
    flip, quarters, scale, aniso = (strengths.get(name, none) for name in ("xflip", "rotate90", "scale", "aniso"))
    before, after = strengths.get("rotate", none.expand(-1, 2)).unbind(dim=1)
    side = torch.stack((torch.full_like(none, width), torch.full_like(none, height)), dim=1)  # (N, 2, 1)
    pixels = (strengths.get("xint", none)[..., None] * side).round()
    shift = strengths.get("xfrac", none)[..., None] * side

    # the inverses, and so first in the product what is applied first
    blit = _rotation(quarters[:, 0] * (math.pi / 2)).round()
    blit = blit * torch.stack((1 - 2 * flip, torch.ones_like(flip)), dim=1)
    stretch = torch.cat((-scale - aniso, -scale + aniso), dim=1).exp2()[:, None]  # (N, 1, 2): columns, x and y
    linear = blit @ (_rotation(before) * stretch) @ _rotation(after)
    return torch.cat((linear, -(blit @ pixels + linear @ shift)), dim=2)


def color_matrices(strengths: Mapping[str, Tensor]) -> Tensor:
    """The transforms of colour as one matrix from (red, green, blue, 1) to (red, green, blue).

    Applied are, in this order: brightness, contrast, luma flip, hue, saturation. About the grey axis each of them acts
    by a factor along it and a rotation and a factor across it, and those are multiplied here.

    Args:
        strengths: From :func:`draw`; those that are missing are 0.

    Returns:
        (N, 3, 4).
    """
    none = torch.zeros_like(next(iter(strengths.values()))[:, :1])
    brightness, contrast, flip, hue, saturation = (strengths.get(name, none)[..., None] for name in COLOR)  # (N, 1, 1)
    along = contrast.exp2() * (1 - 2 * flip)
    across = (contrast + saturation).exp2()

    identity = torch.ones_like(none[0]).expand(3).diag()
    grey = torch.ones_like(identity) / 3  # projects onto the axis
    turn = (identity.roll(1, dims=0) - identity.roll(1, dims=1)) / math.sqrt(3)  # by a right angle, of what is across
    linear = along * grey + across * (hue.cos() * (identity - grey) + hue.sin() * turn)
    return torch.cat((linear, (along * brightness).expand(-1, 3, -1)), dim=2)


def _rotation(angle: Tensor) -> Tensor:
    """(N,) -> (N, 2, 2), from x to y by this angle."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((cos, -sin, sin, cos), dim=1).view(-1, 2, 2)
