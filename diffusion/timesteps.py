"""What is known of each timestep; at which ones a batch is trained, with unbiased weights; and losses by timestep."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from tenshot.errors import InputError

__all__ = [
    "LossAwareTimesteps", "TimeTables", "TimestepBinMeans", "TimestepSampler", "UniformTimesteps", "position_of",
    "signal_between",
]  # fmt: skip


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


class TimestepSampler(Protocol):
    """Draws timesteps, and may learn from the losses that came of them."""

    def sample(self, n: int, device: torch.device, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Timesteps (n,) int64 and the weight of each sample's loss (n,) float32, on ``device``.

        A generator is drawn from on its own device, so a CPU one gives the same timesteps everywhere.
        """

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Take note of the unweighted losses (n,) at t (n,). A collective call, with the same n on every rank."""

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state_dict`` gave."""


class UniformTimesteps:
    """Every step equally often, every weight 1."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps

    def sample(self, n: int, device: torch.device, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Timesteps (n,) and ones (n,)."""
        drawn_on = device if generator is None else generator.device
        t = torch.randint(self.num_steps, (n,), generator=generator, device=drawn_on)
        return t.to(device, non_blocking=True), torch.ones(n, device=device)

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Nothing to learn."""

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""


class LossAwareTimesteps:
    """Steps drawn in proportion to the root mean square of their last losses (IDDPM, section 3.3 and eq. 18).

    Uniform until every step has a full history. All ranks learn from all losses, so their histories stay the same.
    The state lives on the device of the batch, and neither method waits for it.

    Args:
        num_steps: Length of the process.
        history: How many losses of each step are remembered.
        uniform_prob: Share of the draws that stays uniform, so that no step is forgotten.
    """

    def __init__(self, num_steps: int, history: int = 10, uniform_prob: float = 0.001) -> None:
        self.num_steps = num_steps
        self.uniform_prob = uniform_prob
        # float64, since a step's share of the draws may be as small as 1e-7. Each row is a ring.
        self._history = torch.zeros(num_steps, history, dtype=torch.float64)
        self._counts = torch.zeros(num_steps, dtype=torch.int64)

    def probabilities(self) -> Tensor:
        """How often each step is drawn: (num_steps,) float64, sums to 1."""
        rms = self._history.square().mean(dim=1).sqrt()
        uniform = torch.full_like(rms, 1 / self.num_steps)
        aware = torch.lerp(rms / rms.sum(), uniform, self.uniform_prob)
        warmed_up = (self._counts >= self._history.shape[1]).all()
        return torch.where(warmed_up, aware, uniform)

    def sample(self, n: int, device: torch.device, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Timesteps (n,) and weights 1 / (num_steps * probability) (n,), with which the mean loss is unbiased."""
        self._move_to(device)
        p = self.probabilities()
        drawn_on = device if generator is None else generator.device
        u = torch.rand(n, dtype=torch.float64, generator=generator, device=drawn_on).to(device, non_blocking=True)
        cumulative = p.cumsum(dim=0)
        t = torch.searchsorted(cumulative, u * cumulative[-1], right=True)
        return t, (1 / (self.num_steps * p[t])).float()

    @torch.no_grad()
    def update(self, t: Tensor, losses: Tensor) -> None:
        """Remember the unweighted losses (n,) at t (n,); gathers them from all ranks, which must bring equally many."""
        t, losses = _gather(t, losses.double())
        self._move_to(t.device)
        size = self._history.shape[1]

        # The batch may hold a step more than once: sort, and number the losses of each step in order of arrival.
        t, order = t.sort(stable=True)
        first, end = torch.searchsorted(t, t), torch.searchsorted(t, t, right=True)
        number = torch.arange(len(t), device=t.device) - first
        # Where they go once round the ring within this batch, a slot is written twice; both writes bring the latest.
        latest = number + (end - first - 1 - number) // size * size
        self._history[t, (self._counts[t] + number) % size] = losses[order][first + latest]
        self._counts.index_add_(0, t, torch.ones_like(t))

    def state_dict(self) -> dict[str, Tensor]:
        """``history`` (num_steps, history) and ``counts`` (num_steps,)."""
        return {"history": self._history.clone(), "counts": self._counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what ``state_dict`` gave. From one of uniform timesteps, which has no history, that starts anew.

        Raises:
            InputError: It comes from a process of another length, or from another length of history.
        """
        if not state:
            return
        found, expected = tuple(state["history"].shape), tuple(self._history.shape)
        if found != expected:
            raise InputError(
                f"the checkpoint's loss history is of {found[0]} steps x {found[1]} losses, this run's of "
                f"{expected[0]} x {expected[1]}: set num_steps and history as they were"
            )
        self._history, self._counts = state["history"].clone(), state["counts"].clone()

    def _move_to(self, device: torch.device) -> None:
        self._history, self._counts = self._history.to(device), self._counts.to(device)


def _gather(t: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Timesteps and losses of all ranks, in order of rank."""
    if not (dist.is_available() and dist.is_initialized()):
        return t, losses
    mine = torch.stack([t.double(), losses])  # one message; float64 holds every timestep exactly
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, mine)
    t, losses = torch.cat(everyone, dim=1)
    return t.long(), losses


class TimestepBinMeans:
    """Means of losses in four equal bins of the timesteps: one mean hides that some terms live at the noisy end alone.

    They are of the losses since they were last taken, and are gathered without waiting for the device.

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

    def state_dict(self) -> dict[str, Tensor]:
        """The sums so far, so that a resumed run logs what one that was never stopped does."""
        return dict(self._sums)

    def load_from(self, checkpoint: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what a checkpoint keeps under ``timestep_bins``, older ones under ``quarters``."""
        state = checkpoint.get("timestep_bins", checkpoint.get("quarters", {}))
        self._sums = {name: total.to(device) for name, total in state.items()}
