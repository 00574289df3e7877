"""Intra-LPIPS against the published protocol, pair by pair with the ``lpips`` package: ``python
-m benchmarks.intra_lpips``; eight minutes on two cores.

Both get the same images, shots and weights (heads of the package, a random trunk: that takes as long), in one
process. The protocol runs whole once at ``--count`` images, for its value and its time. Then both take turns: some
of the protocol's pairs, which all take equally long, and ours at ``--count`` and ``--many``; ratios are medians over
rounds. Memory is the peak of a process of its own. Writes ``benchmarks/results/<name>.json`` and ``.md``, where parts
that are not measured stay.
"""

import argparse
import contextlib
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lpips
import torch
from torch import Tensor, nn

from benchmarks.parts.contest import BUSY_LIMIT, busy_seconds
from benchmarks.parts.program import rss_mib
from benchmarks.parts.report import describe_machine, spread
from tenshot.cli.allocator import keep_freed_memory
from tenshot.datamodules.faces.source import FacesSource
from tenshot.datamodules.pixels import from_pixels
from tenshot.metrics import IntraLPIPS
from tenshot.models.features.lpips import LPIPSNetwork

RESULTS = Path(__file__).parent / "results"
CAP = 50


class Passes:
    """Counts the images that go through a trunk."""

    def __init__(self, first: nn.Module) -> None:
        self.count = 0
        first.register_forward_hook(self._add)

    def _add(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.count += len(output)


class Bench:
    """The same images and weights for both.

    Args:
        size: Of the images.
        most: How many generated ones there are to choose from.
        shots: How many targets there are.
        network: Ours.
    """

    def __init__(self, size: int, most: int, shots: int, network: LPIPSNetwork) -> None:
        self.network = network
        self.generated = FacesSource("faces", 0, range(most), size).read(range(most))["image"]
        self.shots = FacesSource("sunglasses", 1, range(shots), size).read(range(shots))["image"]
        self.passes = Passes(network.layers[0])

    def ours(self, count: int) -> tuple[float, list[int]]:
        """Intra-LPIPS of some of the images, and the sizes of the clusters."""
        metric = IntraLPIPS(self.network, cap=CAP, subset="first")
        metric.update(self.generated[:count])
        metric.update(self.shots, real=True)
        report = metric.report()
        return next(iter(report.values.values())), report.details["cluster_sizes"]


class Protocol:
    """The published protocol on the images of a bench."""

    def __init__(self, bench: Bench, package: lpips.LPIPS) -> None:
        self.bench, self.package = bench, package
        self.passes = Passes(package.net.slice1[0])

    def pair(self, a: Tensor, b: Tensor) -> float:
        """One distance as published: two images through the package."""
        return self.package(from_pixels(a[None]), from_pixels(b[None])).item()

    @torch.inference_mode()
    def whole(self, count: int) -> float:
        """Intra-LPIPS of some of the images."""
        generated, shots = self.bench.generated, self.bench.shots
        clusters: list[list[int]] = [[] for _ in shots]
        for i in range(count):
            distances = [self.pair(generated[i], shot) for shot in shots]
            clusters[distances.index(min(distances))].append(i)
        means = []
        for members in clusters:
            found = [self.pair(generated[i], generated[j]) for i, j in pairs(members)]
            if found:
                means.append(sum(found) / len(found))
        return sum(means) / len(means)

    @torch.inference_mode()
    def some(self, count: int) -> None:
        """So many of its distances."""
        generated, shots = self.bench.generated, self.bench.shots
        for i in range(count):
            self.pair(generated[i % len(generated)], shots[i % len(shots)])


def same_networks() -> tuple[lpips.LPIPS, LPIPSNetwork]:
    """The package's network and ours, with the same weights."""
    torch.manual_seed(0)
    with contextlib.redirect_stdout(sys.stderr):
        package = lpips.LPIPS(net="vgg", pnet_rand=True).requires_grad_(False)
    trunk = {f"features.{name.split('.', 1)[1]}": value for name, value in package.net.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(trunk, Path(folder, "vgg.pth"))
        return package, LPIPSNetwork("vgg", weights=str(Path(folder, "vgg.pth")))


def pairs(members: list[int]) -> list[tuple[int, int]]:
    return list(itertools.combinations(members[:CAP], 2))


def pairs_of_protocol(count: int, sizes: list[int]) -> int:
    """Distances that the protocol takes: of each image to each shot, and within the clusters."""
    return count * len(sizes) + sum(len(pairs(list(range(size)))) for size in sizes)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Its result, its seconds, and the share of the machine that other processes took meanwhile."""
    busy, own, start = busy_seconds(), time.process_time(), time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    others = busy_seconds() - busy - (time.process_time() - own)
    return result, seconds, max(0.0, others) / (seconds * os.cpu_count())


def contest(args: argparse.Namespace) -> dict[str, Any]:
    """The protocol whole, then rounds in which both take turns, in alternating order."""
    package, network = same_networks()
    bench = Bench(args.size, args.many, args.shots, network)
    protocol = Protocol(bench, package)
    bench.ours(args.shots)
    protocol.some(2)
    protocol.passes.count = 0
    value, whole_seconds, _ = timed(lambda: protocol.whole(args.count))
    whole_passes = protocol.passes.count
    print(f"  whole protocol: {whole_seconds:.1f} s, {whole_passes} passes", file=sys.stderr)

    turns = {
        "pairs": lambda: protocol.some(args.pairs),
        "ours": lambda: bench.ours(args.count),
        "many": lambda: bench.ours(args.many),
    }
    rounds, results, passes = [], {}, {}
    for number in range(args.rounds):
        costs, others = {}, 0.0
        for name in list(turns) if number % 2 == 0 else reversed(turns):
            bench.passes.count = 0
            results[name], costs[name], taken = timed(turns[name])
            passes[name] = bench.passes.count
            others = max(others, taken)
        rounds.append(costs | {"others": others})
        shown = ", ".join(f"{name} {cost:.2f}" for name, cost in rounds[-1].items())
        print(f"  {number + 1}: {shown}", file=sys.stderr)

    quiet = [costs for costs in rounds if costs["others"] <= BUSY_LIMIT]
    rows = []
    for count, name in ((args.count, "ours"), (args.many, "many")):
        taken = pairs_of_protocol(count, results[name][1])
        seconds = [(costs["pairs"] / args.pairs * taken, costs[name]) for costs in quiet or rounds]
        rows.append(
            {
                "images": count,
                "passes": passes[name],
                "passes_pair_by_pair": 2 * taken,
                "seconds": spread([ours for _, ours in seconds]),
                "seconds_pair_by_pair": spread([theirs for theirs, _ in seconds]),
                "ratio": spread([theirs / ours for theirs, ours in seconds]),
            }
        )
    assert whole_passes == rows[0]["passes_pair_by_pair"]
    return {
        "machine": describe_machine("cpu", args.threads),
        "size": args.size,
        "shots": args.shots,
        "rows": rows,
        "whole_protocol": {"seconds": whole_seconds, "value": value, "value_of_ours": results["ours"][0]},
        "timed_pairs": args.pairs,
        "rounds": rounds,
        "quiet_rounds": len(quiet),
    }


def memory(size: int, count: int, shots: int, threads: int) -> dict[str, Any]:
    """The metric alone in a process of its own; its peak less what there was before the images came."""
    words = ["--alone", "--size", size, "--count", count, "--shots", shots, "--threads", threads]
    print(f"  memory of {count} images at {size} px", file=sys.stderr)
    command = [sys.executable, "-m", "benchmarks.intra_lpips", *map(str, words)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(said.stdout)


def alone(args: argparse.Namespace) -> None:
    """What that process does and says."""
    before = rss_mib()
    bench = Bench(args.size, args.count, args.shots, LPIPSNetwork.random())
    (_, sizes), seconds, _ = timed(lambda: bench.ours(args.count))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said = {"size": args.size, "images": args.count, "passes": bench.passes.count, "clusters": sizes}
    print(json.dumps(said | {"seconds": seconds, "peak_rss_mib": peak, "above_imports_mib": peak - before}))


def markdown(result: dict[str, Any]) -> str:
    """The tables of what was measured."""
    lines = []
    if "time" in result:
        found = result["time"]
        machine, whole = found["machine"], found["whole_protocol"]
        lines += [
            f"{machine['cpu']}, {machine['threads']} threads ({machine['instructions']}), torch {machine['torch']}. "
            f"Intra-LPIPS (VGG16) at {found['size']} px, {found['shots']} shots, clusters capped at {CAP}; medians of "
            f"rounds with the 10-90 % range. Seconds pair by pair are those of {found['timed_pairs']} pairs in the "
            "same round, times the number of pairs.",
            "",
            "| images | trunk passes, pair by pair | ours | s, pair by pair | ours | times faster |",
            "|---|---|---|---|---|---|",
        ]
        for row in found["rows"]:
            ratio, by_pair = row["ratio"], row["seconds_pair_by_pair"]["median"]
            lines.append(
                f"| {row['images']} | {row['passes_pair_by_pair']} | {row['passes']} | {by_pair:.1f} "
                f"| {row['seconds']['median']:.2f} | {ratio['median']:.1f} ({ratio['p10']:.1f}-{ratio['p90']:.1f}) |"
            )
        lines += [
            "",
            f"The whole protocol at {found['rows'][0]['images']} images took {whole['seconds']:.1f} s. Its value "
            f"is {whole['value']:.7f}, ours {whole['value_of_ours']:.7f}: "
            f"{abs(whole['value'] - whole['value_of_ours']):.1e} apart. {found['quiet_rounds']} of "
            f"{len(found['rounds'])} rounds were quiet.",
            "",
        ]
    if "memory" in result:
        lines += [
            "| memory of ours | images | trunk passes | s | peak MiB | above the imports |",
            "|---|---|---|---|---|---|",
        ]
        for row in result["memory"]:
            lines.append(
                f"| {row['size']} px | {row['images']} | {row['passes']} | {row['seconds']:.0f} "
                f"| {row['peak_rss_mib']:.0f} | {row['above_imports_mib']:.0f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="intra_lpips", help="of the files in benchmarks/results")
    parser.add_argument("--parts", nargs="+", choices=("time", "memory"), default=["time", "memory"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--count", type=int, default=100, help="images of which both take the number")
    parser.add_argument("--many", type=int, default=1000, help="images of which ours takes it")
    parser.add_argument("--pairs", type=int, default=100, help="of the protocol, in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--memory", nargs="+", default=["64x1000", "256x300"], help="SIZExIMAGES of that part")
    parser.add_argument("--alone", action="store_true", help="only the metric, for its memory")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    if args.alone:
        alone(args)
        return
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{args.name}.json"
    result = json.loads(file.read_text()) if file.exists() else {}
    if "time" in args.parts:
        result["time"] = contest(args)
    if "memory" in args.parts:
        sizes = [tuple(map(int, words.split("x"))) for words in args.memory]
        result["memory"] = [memory(size, count, args.shots, args.threads) for size, count in sizes]
    file.write_text(json.dumps(result, indent=1) + "\n")
    file.with_suffix(".md").write_text(markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
