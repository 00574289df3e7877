"""Whether the rule of docs/stopping.md stops near the optimum, on drawn faces, whose true images are known.

``make stopping`` adapts a source model to ten images by four methods, two targets and three seeds, and evaluates every
few steps what the rule sees and what it does not: the Fréchet distance to 1000 other true images. Each run is a
``tenshot`` command that is printed; what is finished is not done again, what was stopped goes on. Writes
docs/stopping_results.csv, the tables of docs/stopping.md and its plot from all runs that are finished, after each.
"""

import argparse
import csv
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev

ROOT = Path(os.environ.get("TENSHOT_STOPPING", "runs/stopping"))
DOCS = Path(__file__).parents[1] / "docs"
TARGETS, SEEDS, SHOTS, SAMPLES = ("sunglasses", "babies"), (1, 2, 3), 10, 100
FEATURES = "efficientnet_lite0"
FD, NEARNESS, COPIES = (f"{name}_{FEATURES}" for name in ("fd", "nearness", "near_copies"))
SHOWN = [FD, f"kd_{FEATURES}", NEARNESS, COPIES, f"authenticity_{FEATURES}", f"vendi_{FEATURES}"]
SOURCES = {"ddpm": "configs/ddpm/faces32_source.yaml", "stylegan2": "configs/stylegan2/faces32_source.yaml"}
QUICKER = ("--model.sampler.steps", "10")

Row = dict[str, str]
"""Of results.csv: an evaluation of a run."""


@dataclass(frozen=True)
class Method:
    """How a method is run.

    Args:
        recipe: Its configuration.
        source: What it starts from, a name of SOURCES.
        every: Steps between two evaluations.
        options: What the recipe is changed by.
    """

    recipe: str
    source: str
    every: int
    options: tuple[str, ...] = ()


METHODS = {
    "fine-tuned": Method("configs/ddpm/faces32_finetune.yaml", "ddpm", 25, QUICKER),
    "DDPM-PA": Method("configs/ddpm_pa/faces32_sunglasses.yaml", "ddpm", 25, QUICKER),
    "TGAN": Method("configs/stylegan2/faces32_tgan_10.yaml", "stylegan2", 50),
    "CDC": Method("configs/cdc/faces32_sunglasses.yaml", "stylegan2", 50),
}


@dataclass(frozen=True)
class Run:
    """One adaptation; its seed draws the shots and the noise of training."""

    method: str
    target: str
    seed: int

    @property
    def folder(self) -> Path:
        """Where it lives."""
        return ROOT / self.target / self.method / f"seed{self.seed}"

    @property
    def name(self) -> str:
        """For ``--only``."""
        return f"{self.method}/{self.target}/{self.seed}"

    def command(self) -> list[str]:
        """What is called."""
        method = METHODS[self.method]
        return [
            "fit", "--config", method.recipe, "--model.init_from", str(ROOT / f"source_{method.source}"),
            *method.options, "--data.domain", self.target, "--data.seed", str(self.seed), "--seed_everything",
            str(self.seed), "--trainer.default_root_dir", str(self.folder), "--ckpt_path", "last",
            "--grid.every_n_steps", "0", "--evaluate.every_n_steps", str(method.every), "--evaluate.fit_samples",
            str(SAMPLES), "--evaluate.features", FEATURES, "--evaluate.metrics",
            "[frechet,kernel,nearness,near_copies,authenticity,vendi]",
            "--evaluate.keep_best", f"nearness_gap_{FEATURES}",
        ]  # fmt: skip


RUNS = [Run(method, target, seed) for seed in SEEDS for method in METHODS for target in TARGETS]


def call(argv: list[str], finished: Path, dry: bool) -> None:
    """Show a command and run it, unless it is done."""
    if finished.exists():
        return
    print("\n$ tenshot " + " ".join(argv), flush=True)
    if not dry:
        from tenshot.cli import main as tenshot

        tenshot(argv)
        finished.touch()


def adapt(run: Run, dry: bool) -> None:
    """Train and evaluate, its source first, as far as it is not done."""
    source = METHODS[run.method].source
    folder = ROOT / f"source_{source}"
    command = ["fit", "--config", SOURCES[source], "--trainer.default_root_dir", str(folder), "--ckpt_path", "last"]
    call(command, folder / "finished", dry)
    call(run.command(), run.folder / "finished", dry)


def found(run: Run) -> list[Row]:
    """What the evaluations of a finished run hold, by step."""
    if not (run.folder / "finished").exists():
        return []
    results = [json.loads(path.read_text()) for path in sorted((run.folder / "evaluations").glob("step=????????.json"))]
    about = {"target": run.target, "method": run.method, "seed": str(run.seed)}
    return [
        about | {"step": str(result["step"])} | {name: f"{result['values'][name]:.6g}" for name in SHOWN}
        for result in results
    ]


def least_gap(nearness: Sequence[float]) -> int:
    """The rule: which evaluation is nearest to 0.5, the last of equal ones."""
    return min(reversed(range(len(nearness))), key=lambda i: abs(nearness[i] - 0.5))


def first_crossing(nearness: Sequence[float]) -> int:
    """A rival: the evaluation at which 0.5 is reached for the first time, or that before it, whichever is nearer.

    The last one where it is not reached.
    """
    reached = next((i for i, value in enumerate(nearness) if value >= 0.5), None)
    if reached is None:
        return len(nearness) - 1
    before = max(0, reached - 1)
    return before + least_gap(nearness[before : reached + 1])


def copying(rows: Sequence[Row]) -> str:
    """The step at which the run was warned that copying begins; a dash where it was not."""
    from tenshot.callbacks.copying_watch import CopyingWatch

    watch = CopyingWatch()
    numbers = {"n_real": SHOTS, "n_shots": SHOTS, "n_generated": SAMPLES, "n_reference": 1000}
    watched = {"nearness": NEARNESS, "near_copies": COPIES}
    for row in rows:
        metrics = {
            metric: {"values": {name: float(row[name])}, "settings": numbers} for metric, name in watched.items()
        }
        if watch.began({"step": int(row["step"]), "metrics": metrics}):
            return row["step"]
    return "–"


def by_run(rows: Sequence[Row], target: str) -> list[tuple[str, str, list[Row]]]:
    """Method, seed and evaluations of each run, in the order of METHODS."""
    runs = [
        (method, seed, sorted(group, key=lambda row: int(row["step"])))
        for (method, seed), group in groupby(
            sorted((row for row in rows if row["target"] == target), key=lambda row: (row["method"], row["seed"])),
            key=lambda row: (row["method"], row["seed"]),
        )
    ]
    return sorted(runs, key=lambda run: list(METHODS).index(run[0]))


def table(rows: Sequence[Row], target: str) -> str:
    """Of one target, as Markdown: a line a run, and of each method with several a mean; then what was not run."""
    lines = [
        f"| {target} | seed | steps: rule | first crossing | optimum | end | copying | FD: rule | first crossing | "
        "optimum | end |",
        "|---" * 11 + "|",
    ]
    runs = by_run(rows, target)
    for method, group in groupby(runs, key=lambda run: run[0]):
        ratios = []
        for _, seed, found in group:
            nearness, distance = ([float(row[name]) for row in found] for name in (NEARNESS, FD))
            best = min(range(len(found)), key=lambda i: distance[i])
            places = [least_gap(nearness), first_crossing(nearness), best, len(found) - 1]
            steps, values = ([column[i] for i in places] for column in ([row["step"] for row in found], distance))
            shown = " | ".join(f"{one:.1f}" for one in values)
            lines.append(f"| {method} | {seed} | {' | '.join(steps)} | {copying(found)} | {shown} |")
            ratios.append([value / distance[best] for value in values])
        if len(ratios) > 1:
            means = [f"{fmean(column):.2f} ± {stdev(column):.2f}" for column in zip(*ratios, strict=True)]
            lines.append(f"| {method}, FD over the optimum's | {len(ratios)} seeds | | | | | | {' | '.join(means)} |")
    done = {(method, int(seed)) for method, seed, _ in runs}
    missing = [
        f"{run.method} {run.seed}" for run in RUNS if run.target == target and (run.method, run.seed) not in done
    ]
    parts = ["\n".join(lines)] if runs else []
    return "\n\n".join(parts + [f"Not run yet (method, seed): {', '.join(missing)}."] * bool(missing))


def fill(page: str, rows: Sequence[Row]) -> str:
    """The page with the tables and the plot between its markers."""
    parts = {f"table {target}": f"{table(rows, target)}\n" for target in TARGETS}
    parts["plot"] = "![Distance to the truth and nearness over steps](images/stopping.png)\n" if rows else ""
    for name, part in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page, count = re.subn(pattern, lambda m, part=part: f"{m[1]}{part}{m[2]}", page, flags=re.DOTALL)
        assert count == 1, f"docs/stopping.md: no place for the {name}"
    return page


def read(path: Path) -> list[Row]:
    """The rows of the table, none of one that is not there."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def publish(docs: Path) -> None:
    """Write all that is known: of runs that are finished here, and of others what the file has."""
    new = [row for run in RUNS for row in found(run)]
    measured = {(row["target"], row["method"], row["seed"]) for row in new}
    kept = [
        row
        for row in read(docs / "stopping_results.csv")
        if (row["target"], row["method"], row["seed"]) not in measured
    ]
    rows = sorted([*kept, *new], key=lambda row: (row["target"], row["method"], row["seed"], int(row["step"])))
    with open(docs / "stopping_results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["target", "method", "seed", "step", *SHOWN], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    page = docs / "stopping.md"
    page.write_text(fill(page.read_text(), rows))
    if rows:
        draw(rows, docs / "images" / "stopping.png")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Distance to the truth (black) and nearness (orange) over steps, a panel a method and target, a line a seed."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(TARGETS), len(METHODS), figsize=(13, 6), squeeze=False, layout="constrained")
    for target, line in zip(TARGETS, panels, strict=True):
        for method, left in zip(METHODS, line, strict=True):
            left.set_title(f"{method}, {target}")
            right = left.twinx()
            right.set_ylim(0, 1)
            right.axhline(0.5, color="tab:orange", linewidth=0.5)
            for name, _, found in by_run(rows, target):
                if name != method:
                    continue
                steps = [int(row["step"]) for row in found]
                nearness, distance = ([float(row[value]) for row in found] for value in (NEARNESS, FD))
                rule = least_gap(nearness)
                left.plot(steps, distance, color="black", linewidth=1)
                left.plot(steps[rule], distance[rule], "o", color="black")
                right.plot(steps, nearness, color="tab:orange", linewidth=1)
    figure.supxlabel("step; black: Fréchet distance to true images, a disc where the rule stops; orange: nearness")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    """Do what is left to do, and write after each run what is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="METHOD/TARGET/SEED", nargs="+", help="parts may be *", default=["*/*/*"])
    parser.add_argument("--dry", action="store_true", help="print the commands, and do nothing")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of stopping.md and stopping_results.csv")
    args = parser.parse_args()
    for run in RUNS:
        if any(Path(run.name).match(pattern) for pattern in args.only):
            adapt(run, args.dry)
            if not args.dry:
                publish(args.docs)


if __name__ == "__main__":
    main()
