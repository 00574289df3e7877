"""Noise schedules, and which steps of a long process a short one keeps."""

import math
from itertools import pairwise

import numpy as np

from tenshot.errors import InputError

__all__ = ["cosine_betas", "linear_betas", "space_timesteps"]

_MAX_BETA = 0.999  # the cosine schedule would end in beta = 1, where x_t holds nothing of x_0
_COSINE_OFFSET = 0.008  # keeps beta_0 near the size of a pixel bin (IDDPM, section 3.2)
_FAST27_SECTIONS = "10,10,3,2,2"


def linear_betas(num_steps: int) -> np.ndarray:
    """DDPM's schedule, 1e-4 ... 0.02 at 1000 steps, rescaled to reach the same noise in ``num_steps``.

    Returns: (num_steps,) float64, increasing. With 20 steps the last beta is 1, with fewer it is larger.
    """
    scale = 1000 / num_steps
    return np.linspace(scale * 1e-4, scale * 0.02, num_steps, dtype=np.float64)


def cosine_betas(num_steps: int) -> np.ndarray:
    """Improved DDPM's schedule: alpha-bar falls like a squared cosine, each beta is at most 0.999 (eq. 17).

    Returns: (num_steps,) float64. alpha-bar is the product of the *clipped* 1 - beta, not the cosine itself.
    """
    u = np.arange(num_steps + 1, dtype=np.float64) / num_steps
    alpha_bar = np.cos((u + _COSINE_OFFSET) / (1 + _COSINE_OFFSET) * math.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], _MAX_BETA)


def space_timesteps(num_steps: int, spec: str) -> list[int]:
    """The indices out of 0 ... num_steps - 1 that a respaced process keeps, ascending.

    Args:
        num_steps: Length of the process to choose from.
        spec: ``""`` keeps every step. ``"250"`` spreads 250 steps evenly, both ends included. ``"10,20,30"`` cuts the
            process into as many equal sections, smallest t first, and spreads that many steps over each.
            ``"ddim25"`` takes the integer stride that gives 25 steps from 0 on. ``"fast27"`` is the schedule of
            GLIDE's upsampler: ``"10,10,3,2,2"`` with the last step moved down by two.

    Raises:
        InputError: The spec can't be read, or the process can't give these steps.
    """
    if spec == "":
        return list(range(num_steps))
    if spec == "fast27":
        steps = _sections(num_steps, _FAST27_SECTIONS)
        return sorted({*steps[:-1], num_steps - 3})
    if spec.startswith("ddim"):
        return _integer_stride(num_steps, spec)
    return _sections(num_steps, spec)


def _integer_stride(num_steps: int, spec: str) -> list[int]:
    count = _parse_count(spec.removeprefix("ddim"), spec)
    possible = {len(range(0, num_steps, stride)): stride for stride in range(num_steps - 1, 0, -1)}
    if count not in possible:
        below = max((n for n in possible if n < count), default=None)
        above = min((n for n in possible if n > count), default=None)
        near = " or ".join(f"'ddim{n}'" for n in (below, above) if n is not None)
        raise InputError(f"respacing {spec!r}: no integer stride takes {count} of {num_steps} steps; try {near}")
    return list(range(0, num_steps, possible[count]))


def _sections(num_steps: int, spec: str) -> list[int]:
    counts = [_parse_count(part, spec) for part in spec.split(",")]
    edges = np.cumsum([0, *(len(part) for part in np.array_split(np.arange(num_steps), len(counts)))]).tolist()
    steps: list[int] = []
    for count, (start, stop) in zip(counts, pairwise(edges), strict=True):
        size = stop - start
        if count > size:
            raise InputError(
                f"respacing {spec!r}: asks {count} steps of a section that has {size} "
                f"({num_steps} steps in {len(counts)} sections); ask fewer"
            )
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0  # a running sum and half-to-even rounding, because published step lists were made so
        for _ in range(count):
            steps.append(start + round(position))
            position += stride
    if not steps:
        raise InputError(f"respacing {spec!r}: keeps no step; ask at least one")
    return steps


def _parse_count(text: str, spec: str) -> int:
    if not text.strip().isdecimal():
        raise InputError(
            f"respacing {spec!r}: {text!r} is not a number of steps; "
            "write '' (all steps), '250', '10,20,30', 'ddim25' or 'fast27'"
        )
    return int(text)
