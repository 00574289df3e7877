"""Tables over time that live in float64 on the host and are looked up on whatever device a batch is on."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

__all__ = ["TimeTables"]


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
