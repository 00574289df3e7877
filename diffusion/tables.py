"""What is known of each timestep of a process, on whichever device it is asked for, and between the timesteps."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

__all__ = ["TimeTables", "position_of", "signal_between"]

SIGNAL = "sqrt_alphas_cumprod"


class TimeTables:
    """Named arrays of one value per timestep. Each is copied to a device once, never in a step."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = dict(arrays)
        self._tensors: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def on(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """All tables as tensors (T,) of that device and dtype."""
        key = (device, dtype)
        if key not in self._tensors:
            self._tensors[key] = {
                name: torch.tensor(array, dtype=dtype, device=device) for name, array in self._arrays.items()
            }
        return self._tensors[key]

    def at(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """Table ``name`` at ``t``, ready to multiply ``like``.

        t: (N,) int64; like: (N, ...) float32 or float64, gives device and dtype  ->  (N, 1, ...)
        """
        table = self.on(like.device, like.dtype)[name]
        return table[t].view(-1, *[1] * (like.dim() - 1))

    def between(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """As ``at``, between the steps too: the factor of the signal is linear from each step to the next.

        So is how continuous noise levels are drawn in training (WaveGrad, arXiv 2009.00713; CDM, section 6). Of tables
        that follow from that factor alone.

        t: (N,) float above -1, where an image is clean, up to T - 1
        """
        table = self.on(like.device, like.dtype)[SIGNAL]
        steps = torch.cat([table.new_ones(1), table])
        upper = (t + 1).ceil().long().clamp(1, len(table))
        signal = torch.lerp(steps[upper - 1], steps[upper], (t + 1 - (upper - 1)).to(table.dtype))
        signal = signal.view(-1, *[1] * (like.dim() - 1))
        rest = (1 - signal) * (1 + signal)
        match name:
            case "sqrt_alphas_cumprod":
                return signal
            case "alphas_cumprod":
                return signal.square()
            case "one_minus_alphas_cumprod":
                return rest
            case "sqrt_one_minus_alphas_cumprod":
                return rest.sqrt()
            case "sqrt_recip_alphas_cumprod":
                return 1 / signal
            case "sqrt_recipm1_alphas_cumprod":
                return rest.sqrt() / signal
        raise KeyError(f"{name} is of steps, not between them")


def signal_between(signal: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The factor of the signal at fractional steps, -1 … T - 1 (where -1 is clean), float64.

    signal: (T,) at the steps, falling
    """
    return np.interp(positions, np.arange(-1, len(signal)), np.append(1.0, signal))


def position_of(signal: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The fractional steps at which the factor of the signal has given values: the inverse of ``signal_between``."""
    return np.interp(-wanted, -np.append(1.0, signal), np.arange(-1, len(signal)))
