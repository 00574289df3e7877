"""Plots and grids out of results.csv: ``python scripts/evidence/draw.py``, to docs/images."""

import csv
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
from main import ROOT, SHOTS, TARGETS, Run, pictures
from PIL import Image
from torchvision.utils import make_grid

from tenshot.datamodules import SyntheticFaces

IMAGES = Path("docs/images")
COLOURS = {"from scratch": "tab:red", "fine-tuned": "tab:orange", "DDPM-PA": "tab:blue", "true pictures": "black"}
SHOWN = ("spread", "near-copies", "transfer", "fd_attributes", "fd_random", "intra_dist_random", "nearest_dist_random")

Row = dict[str, str]


def read() -> list[Row]:
    """The rows of results.csv."""
    with open(ROOT / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def table(rows: list[Row], target: str) -> str:
    """Means and standard deviations over seeds, as Markdown."""
    by_method: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["group"] == "methods" and row["target"] == target:
            by_method[row["method"]].append(row)
    lines = [f"| {target} | " + " | ".join(SHOWN) + " |", "|---" * (len(SHOWN) + 1) + "|"]
    for method, found in by_method.items():
        cells = []
        for name in SHOWN:
            values = [float(row[name]) for row in found if row[name]]
            spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.3f}{spread}" if values else "")
        lines.append(f"| {method} ({len(found)} seeds) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def trade_off(rows: list[Row]) -> None:
    """Diversity against transfer, of every run to sunglasses."""
    figure, axes = plt.subplots(figsize=(7, 5))
    for row in (row for row in rows if row["target"] == "sunglasses"):
        colour = next(value for name, value in COLOURS.items() if row["method"].startswith(name))
        marker = {"methods": "o", "weights": "^", "steps": "s"}[row["group"]]
        x, y = float(row["transfer"]), float(row["spread"])
        axes.plot(x, y, marker, color=colour, alpha=0.8)
        if row["group"] != "methods":
            label = row["method"].removeprefix("DDPM-PA ").removeprefix("fine-tuned ")
            axes.annotate(label, (x, y), fontsize=6, xytext=(3, 3), textcoords="offset points")
    for name, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, label=name)
    axes.set_xlabel("transfer: probability of the target domain")
    axes.set_ylabel("diversity: spread of attributes, 1 as in true pictures")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(IMAGES / "evidence_trade_off.png", dpi=110, bbox_inches="tight")


def grid(target: str, seed: int = 1, columns: int = 12) -> None:
    """The shots above samples of each method from the same noise."""
    shots = SyntheticFaces(domain=target, seed=seed, shots=SHOTS, num_val=0).train_source.read(range(SHOTS))["image"]
    tiles = [*shots, *[shots[0] * 0 + 255] * (columns - SHOTS)]
    for method in ("from scratch", "fine-tuned", "DDPM-PA"):
        tiles += list(pictures(Run(method, target, seed).folder / "images")[: 2 * columns])
    sheet = make_grid(tiles, nrow=columns, padding=1, pad_value=255).permute(1, 2, 0).numpy()
    image = Image.fromarray(sheet)
    image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(IMAGES / f"evidence_{target}.png")


def main() -> None:
    """Draw all, and print the tables."""
    rows = read()
    trade_off(rows)
    for target in TARGETS:
        print(table(rows, target) + "\n")
        grid(target)


if __name__ == "__main__":
    main()
