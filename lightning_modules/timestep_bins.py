"""Training losses by timestep bin: one mean hides that some terms live at the noisy end alone."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

__all__ = ["TimestepBinMeans"]


class TimestepBinMeans:
    """Means of losses in four equal bins of the timesteps, since they were last logged; gathered without a device sync.

    Args:
        num_steps: Length of the diffusion process.
    """

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self._sums: dict[str, Tensor] = {}

    def update(self, losses: Mapping[str, Tensor], t: Tensor) -> None:
        """Add one value a sample: name -> (N,), t: (N,) int64."""
        bins = torch.arange(4, device=t.device)
        member = ((t * 4 // self.num_steps)[:, None] == bins).float()  # (N, 4)
        for name, value in {**losses, "": torch.ones_like(t)}.items():  # "" counts
            total = (value.detach().float()[:, None] * member).sum(0)  # a product of matrices autocast would round
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

    def log(self, module: LightningModule, batch_idx: int) -> None:
        """Log the means as ``train/…`` where the other values are written, which is before a checkpoint is.

        Args:
            module: In a training step; nothing is logged of one that is taken without a trainer.
            batch_idx: Of that step.
        """
        if module._trainer is None:
            return
        trainer = cast(Any, module.trainer)
        if (batch_idx + 1) % (trainer.log_every_n_steps * trainer.accumulate_grad_batches) == 0:
            module.log_dict({f"train/{name}": value for name, value in self.pop().items()})

    def state_dict(self) -> dict[str, Tensor]:
        """The sums so far, so that a resumed run logs what one that was never stopped does."""
        return dict(self._sums)

    def load_from(self, checkpoint: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what a checkpoint keeps under ``timestep_bins``, older ones under ``quarters``."""
        state = checkpoint.get("timestep_bins", checkpoint.get("quarters", {}))
        self._sums = {name: total.to(device) for name, total in state.items()}
