"""Ratios with their spread, memory, and the share of the machine's rate, as numbers and as a table."""

import os
import platform
from typing import Any

import numpy as np
import torch

from benchmarks.parts.contest import Contest, Outcome

RATES = ("convolution", "product")
PLAIN = "tenshot, direct fine-tuning"
"""The variant that an adaptation method is compared with."""


def describe_machine(device: str, threads: int) -> dict[str, Any]:
    """What the numbers were measured on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median and 10-90 % range."""
    low, middle, high = np.percentile(values, [10, 50, 90])
    return {"median": float(middle), "p10": float(low), "p90": float(high)}


def summarise(contest: Contest, outcome: Outcome) -> dict[str, Any]:
    """The numbers of one contest; rounds that others disturbed count only where no quiet one was found."""
    rounds = outcome.quiet() or outcome.rounds
    said = outcome.summaries
    rates = {
        name: said[name]["flops_per_step"] / np.median([costs[name]["seconds"] for costs in rounds]) for name in RATES
    }
    reference = contest.variants[0].name
    variants = {}
    for name in (variant.name for variant in contest.variants if variant.name not in RATES):
        seconds = [costs[name]["seconds"] for costs in rounds]
        memory = "peak_gpu_mib" if "peak_gpu_mib" in said[name] else "peak_rss_mib"
        base = 0.0 if memory == "peak_gpu_mib" else said[name]["rss_after_import_mib"]
        variants[name] = said[name] | {
            "seconds": spread(seconds),
            "cpu_seconds": spread([costs[name]["cpu_seconds"] for costs in rounds]),
            "page_faults": spread([costs[name]["page_faults"] for costs in rounds]),
            "ratio": spread([costs[reference]["seconds"] / costs[name]["seconds"] for costs in rounds]),
            "cpu_ratio": spread([costs[reference]["cpu_seconds"] / costs[name]["cpu_seconds"] for costs in rounds]),
            "memory_mib": said[name][memory] - base,
            "fraction_of_rate": said[name]["flops_per_step"] / float(np.median(seconds)) / max(rates.values()),
        }
    plain = {}
    if PLAIN in variants:
        plain["times_fine_tuning"] = spread([costs["tenshot"]["seconds"] / costs[PLAIN]["seconds"] for costs in rounds])
    return plain | {
        "task": contest.task,
        "precision": contest.precision,
        "work": said[reference]["work"],
        "rounds": len(outcome.rounds),
        "quiet_rounds": len(outcome.quiet()),
        "rates_gflops": {name: rate / 1e9 for name, rate in rates.items()},
        "variants": variants,
        "costs": outcome.rounds,
    }


def markdown(result: dict[str, Any]) -> str:
    """The table of a run."""
    machine = result["machine"]
    lines = [
        f"{machine['gpu'] or machine['cpu']}, {machine['threads']} threads ({machine['instructions']}), "
        f"torch {machine['torch']}. Ratios are official seconds over the variant's, medians of rounds with the "
        "10-90 % range; memory is the peak above the imports.",
        "",
        "| work | variant | s a step | times faster | in CPU time | page faults | memory MiB | of the machine's rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for contest in result["contests"]:
        for name, row in contest["variants"].items():
            ratio, cpu = row["ratio"], row["cpu_ratio"]
            lines.append(
                f"| {contest['work']}, {contest['precision']} | {name} | {row['seconds']['median']:.3f} "
                f"| {ratio['median']:.2f} ({ratio['p10']:.2f}-{ratio['p90']:.2f}) | {cpu['median']:.2f} "
                f"| {row['page_faults']['median']:.0f} | {row['memory_mib']:.0f} | {row['fraction_of_rate']:.0%} |"
            )
    lines.append("")
    for contest in result["contests"]:
        rates = ", ".join(f"{name} {rate:.0f}" for name, rate in contest["rates_gflops"].items())
        quiet = f"{contest['quiet_rounds']} of {contest['rounds']} rounds were quiet"
        if not contest["quiet_rounds"]:
            quiet += ", so that all were used: measure again on an idle machine"
        lines.append(f"{contest['task']}, {contest['precision']}: {quiet}; machine GFLOP/s: {rates}.")
        if cost := contest.get("times_fine_tuning"):
            lines.append(
                f"A step of the method takes {cost['median']:.2f} ({cost['p10']:.2f}-{cost['p90']:.2f}) times as long "
                "as one of direct fine-tuning."
            )
    return "\n".join([*lines, *result["notes"], ""])
