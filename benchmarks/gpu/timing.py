"""Times by CUDA events, peaks of memory, and the kernels that take longest; on the CPU by the clock."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

REPEATS, WARMUP = 10, 3


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a step: the median, the 10 and the 90 % point; the peak of allocated memory in GiB (GPU only)."""

    ms: float
    ms_10: float
    ms_90: float
    repeats: int
    peak_gib: float | None

    def values(self) -> dict[str, Any]:
        """As values of a row."""
        return asdict(self)


def measure(
    step: Callable[[], object], device: torch.device, repeats: int = REPEATS, warmup: int = WARMUP, dry: bool = False
) -> Timing:
    """Time a step.

    Args:
        step: Does it once.
        device: Where it works.
        repeats: How often it is timed.
        warmup: How often it is done before.
        dry: Twice without warm-up.
    """
    repeats, warmup = (2, 0) if dry else (repeats, warmup)
    for _ in range(warmup):
        step()
    if device.type != "cuda":
        return _summary(sorted(_clocked(step) for _ in range(repeats)), None)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for begin, end in events:
        begin.record()
        step()
        end.record()
    torch.cuda.synchronize(device)
    return _summary(
        sorted(begin.elapsed_time(end) for begin, end in events), torch.cuda.max_memory_allocated(device) / 2**30
    )


def _clocked(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - start)


def _summary(times: list[float], peak_gib: float | None) -> Timing:
    last = len(times) - 1
    return Timing(statistics.median(times), times[round(0.1 * last)], times[round(0.9 * last)], len(times), peak_gib)


def longest_kernels(step: Callable[[], object], device: torch.device, count: int = 10) -> list[dict[str, Any]]:
    """The kernels (on the CPU the operators) that take most of a step: name, calls, milliseconds, share of the sum."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities = [torch.profiler.ProfilerActivity.CUDA]
        step()
    with torch.profiler.profile(activities=activities) as profile:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    took = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profile.key_averages(), key=lambda event: -getattr(event, took))
    whole = sum(getattr(event, took) for event in events) or 1.0
    return [
        {
            "kernel": event.key[:120],
            "calls": event.count,
            "ms": getattr(event, took) / 1000,
            "share": getattr(event, took) / whole,
        }
        for event in events[:count]
    ]
