"""Plots and grids out of results.csv: ``python scripts/evidence/draw.py``, to docs/images."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
from main import GANS, METHODS, ROOT, SHOTS, TARGETS, Run, images_in
from PIL import Image
from torchvision.utils import make_grid

from tenshot.datamodules import SyntheticFaces

IMAGES = Path("docs/images")
COLOURS = {"from scratch": "tab:red", "fine-tuned": "tab:orange", "DDPM-PA": "tab:blue", "true images": "black"}
MARKERS = {"methods": "o", "weights": "^", "steps": "s", "ema": "D", "noise": "x"}
SHOWN = ("spread", "near-copies", "transfer", "fd_attributes", "fd_random", "intra_dist_random", "nearest_dist_random")

PATHS = ("path_dist_random_std", "path_dist_random_ends")

Row = dict[str, str]


def read() -> list[Row]:
    """The rows of results.csv."""
    with open(ROOT / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def table(rows: list[Row], target: str, groups: tuple[str, ...], shown: tuple[str, ...] = SHOWN) -> str:
    """Means and standard deviations over seeds, as Markdown."""
    by_method: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["group"] in groups and row["target"] == target:
            by_method[row["method"]].append(row)
    lines = [f"| {target} | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for method, found in by_method.items():
        cells = []
        for name in shown:
            values = [float(row[name]) for row in found if row.get(name)]
            spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.3f}{spread}" if values else "")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def trade_off(rows: list[Row]) -> None:
    """Diversity against transfer, of every run to sunglasses."""
    figure, axes = plt.subplots(figsize=(8, 6))
    for row in (row for row in rows if row["target"] == "sunglasses" and row["group"] in MARKERS):
        colour = next(value for name, value in COLOURS.items() if row["method"].startswith(name))
        x, y = float(row["transfer"]), float(row["spread"])
        axes.plot(x, y, MARKERS[row["group"]], color=colour, alpha=0.8)
        if row["group"] != "methods":
            label = row["method"].removeprefix("DDPM-PA ").removeprefix("fine-tuned ")
            label = f"{label} (noise)" if row["group"] == "noise" else label
            axes.annotate(label, (x, y), fontsize=6, xytext=(3, 3), textcoords="offset points")
    for name, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, label=name)
    axes.set_xlabel("transfer: probability of the target domain")
    axes.set_ylabel("diversity: spread of attributes, 1 as in true images")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(IMAGES / "evidence_trade_off.png", dpi=110, bbox_inches="tight")


def grid(target: str, methods: Sequence[str], group: str, name: str, seed: int = 1, columns: int = 12) -> None:
    """The shots above two rows of samples of each method, which for one kind of model start from the same noise."""
    shots = SyntheticFaces(domain=target, seed=seed, shots=SHOTS, num_val=0).train_source.read(range(SHOTS))["image"]
    tiles = [*shots, *[shots[0] * 0 + 255] * (columns - SHOTS)]
    for method in methods:
        tiles += list(images_in(Run(method, target, seed, group=group).folder / "images")[: 2 * columns])
    sheet = make_grid(tiles, nrow=columns, padding=1, pad_value=255).permute(1, 2, 0).numpy()
    image = Image.fromarray(sheet)
    image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(IMAGES / f"{name}_{target}.png")


def strips(target: str, methods: Sequence[str], seed: int = 1) -> None:
    """Interpolations of the GANs between the same latents, one above the other."""
    found = [next((Run(m, target, seed, group="gans").folder / "strips").glob("*.png")) for m in methods]
    sheets = [Image.open(path).convert("RGB") for path in found]
    joined = Image.new("RGB", (sheets[0].width, sum(sheet.height + 6 for sheet in sheets)), "white")
    top = 0
    for sheet in sheets:
        joined.paste(sheet, (0, top))
        top += sheet.height + 6
    double = (joined.width * 2, joined.height * 2)
    joined.resize(double, Image.Resampling.NEAREST).save(IMAGES / f"evidence_strips_{target}.png")


def main() -> None:
    """Draw all, and print the tables."""
    rows = read()
    trade_off(rows)
    for target in TARGETS:
        print(table(rows, target, ("methods",)) + "\n")
        grid(target, list(METHODS), "methods", "evidence")
        done = {row["method"] for row in rows if (row["group"], row["target"]) == ("gans", target)}
        gans = [method for method in GANS if method in done]
        if gans:
            print(table(rows, target, ("gans",), (*SHOWN, *PATHS)) + "\n")
            grid(target, gans, "gans", "evidence_gans")
            strips(target, gans)
    print(table(rows, "sunglasses", ("weights", "steps", "ema", "noise")))


if __name__ == "__main__":
    main()
