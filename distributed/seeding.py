"""Randomness as a function of position: a number of a run's seed and of where it is, never of what came before."""

import os
from collections.abc import Callable, Mapping, Sequence
from random import Random

import torch
from torch import Tensor

__all__ = ["SeededNoise", "host_seeds", "in_equal_batches", "position_seed", "run_seed", "step_choices"]

CPU_BATCH = 4  # about as many images a second as any larger batch
_MASK = 2**32 - 1


def _mix(value: int) -> int:
    """A bijection of 32-bit numbers that scatters neighbours (the finaliser of MurmurHash3)."""
    value &= _MASK
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & _MASK
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & _MASK
    return value ^ (value >> 16)


def position_seed(position: Sequence[int]) -> int:
    """A 32-bit seed from a tuple of integers; distinct values of the last one always give distinct seeds.

    PyTorch's CPU generator uses 32 bits of a seed, so that (seed, step) must be mixed into them.
    """
    seed = 0
    for number in position:
        seed = _mix(seed ^ _mix(number >> 32)) ^ number & _MASK
        seed = _mix(seed)
    return seed


def run_seed() -> int:
    """The seed given to ``seed_everything``, or 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def step_choices(step: int) -> Random:
    """What all ranks choose alike at a training step, such as the layer that a loss looks at."""
    return Random(position_seed([run_seed(), 2, step]))


def host_seeds(count: int) -> list[int]:
    """Seeds for a batch, of the CPU's global generator, which is seeded anew at each step: no device is waited for."""
    seeds: list[int] = torch.randint(2**62, (count,), device="cpu").tolist()
    return seeds


class SeededNoise:
    """Noise for a batch of which each sample has a generator of its own: its numbers do not depend on its neighbours.

    Args:
        seeds: (N,) int64, one a sample.
        device: Where the noise is drawn. Other kinds of device draw other numbers.
        stream: For noise that is independent of other noise of the same seeds: another number, or none.
    """

    def __init__(self, seeds: Tensor, device: torch.device, stream: int | None = None) -> None:
        self.device = device
        places = ([seed] if stream is None else [stream, seed] for seed in seeds.tolist())
        self.generators = [torch.Generator(device).manual_seed(position_seed(place)) for place in places]

    def normal(self, *shape: int) -> Tensor:
        """The next standard normal numbers: (N, *shape)."""
        return torch.stack([torch.randn(shape, generator=g, device=self.device) for g in self.generators])

    def normal_like(self, x: Tensor) -> Tensor:
        """The next standard normal numbers, shaped like x: (N, ...)."""
        return self.normal(*x.shape[1:])

    def integers(self, high: int) -> Tensor:
        """The next uniform integers in [0, high): (N,) int64."""
        return torch.stack([torch.randint(high, (), generator=g, device=self.device) for g in self.generators])


def in_equal_batches(
    draw: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
    seeds: Tensor,
    condition: Mapping[str, Tensor] | None,
    device: torch.device,
) -> Tensor:
    """On a CPU, draw CPU_BATCH images at a time, filling up the last batch; elsewhere all together.

    Which kernels a CPU runs depends on the batch size, and on them the last bits of the network's output: enough to
    move some pixels of an image by one level. With one batch size for all, an image depends on its seed alone, bit
    for bit. On other devices that would cost more than it is worth.

    Args:
        draw: (seeds (n,), condition of n rows, perhaps empty) -> (n, C, H, W).
        seeds: (N,) int64.
        condition: Each of N rows.
        device: Where it is drawn.

    Returns:
        (N, C, H, W)
    """
    condition = condition or {}
    if device.type != "cpu":
        return draw(seeds, condition)
    filled = torch.arange(-(-len(seeds) // CPU_BATCH) * CPU_BATCH).clamp(max=len(seeds) - 1)
    parts = [draw(seeds[i], {name: rows[i] for name, rows in condition.items()}) for i in filled.split(CPU_BATCH)]
    return torch.cat(parts)[: len(seeds)]
