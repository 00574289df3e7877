"""A measured program: it builds, warms up, then takes a step whenever it is told to, and says what that cost.

With ``--serve`` it talks JSON lines: ``{"ready": name}`` once it is warm; for each line ``step`` on stdin one step and
``{"seconds": wall, "cpu_seconds": cpu, "page_faults": n}``; for ``quit`` a summary, and it ends. Without ``--serve`` it
prints the summary of a few steps of its own. Nothing else goes to stdout.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

OWN_STEPS = 5


@dataclass
class Program:
    """What is measured.

    Args:
        work: What a step does, in words.
        step: Does it.
        flops: Floating point operations that the work needs, however it is done.
        params: Parameters of the network.
        warmup: Steps before the first that is measured.
    """

    work: str
    step: Callable[[], object]
    flops: float
    params: int = 0
    warmup: int = 2


def rss_mib() -> float:
    """Resident memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def timed(program: Program, device: torch.device) -> dict[str, float]:
    """One step and its cost; page faults are those that needed no disk."""
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    cpu, start = time.process_time(), time.perf_counter()
    program.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "page_faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults,
    }


def run(name: str, build: Callable[[], Program], device: torch.device, serve: bool) -> None:
    """Build the program and serve its steps on stdin and stdout, or time some."""
    after_import = rss_mib()
    program = build()
    for _ in range(program.warmup):
        timed(program, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    costs: list[dict[str, float]] = []
    if serve:
        say({"ready": name})
        for line in sys.stdin:
            if line.strip() == "quit":
                break
            costs.append(timed(program, device))
            say(costs[-1])
    else:
        costs = [timed(program, device) for _ in range(OWN_STEPS)]
    summary = {
        "name": name,
        "work": program.work,
        "seconds_per_step": median(costs, "seconds"),
        "cpu_seconds_per_step": median(costs, "cpu_seconds"),
        "page_faults_per_step": median(costs, "page_faults"),
        "params": program.params,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rss_after_import_mib": after_import,
        "flops_per_step": program.flops,
    }
    if device.type == "cuda":
        summary["peak_gpu_mib"] = torch.cuda.max_memory_allocated() / 2**20
    say(summary)


def median(costs: list[dict[str, float]], what: str) -> float | None:
    return statistics.median(cost[what] for cost in costs) if costs else None


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)
