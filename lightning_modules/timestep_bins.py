"""Training losses by noise level: one mean hides that some terms live at the noisy end alone."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["TimestepBinMeans"]


class TimestepBinMeans:
    """Means of losses by quarter of the timesteps, since they were last asked for; gathered without a device sync.

    Args:
        num_steps: Length of the diffusion process.
    """

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self._sums: dict[str, Tensor] = {}

    def update(self, losses: Mapping[str, Tensor], t: Tensor) -> None:
        """Add one value a sample: name -> (N,), t: (N,) int64."""
        quarters = torch.arange(4, device=t.device)
        quarter = ((t * 4 // self.num_steps)[:, None] == quarters).float()  # (N, 4)
        for name, value in {**losses, "": torch.ones_like(t)}.items():  # "" counts
            total = (value.detach().float()[:, None] * quarter).sum(0)  # a product of matrices autocast would round
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def pop(self) -> dict[str, Tensor]:
        """The means as ``name_q0`` (least noise) to ``name_q3``, where there were samples; and start anew."""
        sums, self._sums = self._sums, {}
        counts = sums.pop("")
        seen = counts.tolist()
        return {
            f"{name}_q{number}": total[number] / counts[number]
            for name, total in sums.items()
            for number in range(4)
            if seen[number]
        }

    def state_dict(self) -> dict[str, Tensor]:
        """The sums so far, so that a resumed run logs what one that was never stopped does."""
        return dict(self._sums)

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Go on from them."""
        self._sums = {name: total.to(device) for name, total in state.items()}
