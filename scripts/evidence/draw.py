"""The pictures of docs/evidence.md, of rows and of the images of finished runs."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from tenshot.datamodules import SyntheticFaces

from .attributes import images_in
from .plan import Run
from .results import Row
from .sets import SETS, SHOTS, SIZE, Faces

COLUMNS = 12
COLOURS = {
    "true images": "black", "from scratch": "tab:red", "fine-tuned": "tab:orange", "fine-tuned, stopped": "tab:olive",
    "DDPM-PA": "tab:blue", "TGAN": "tab:purple", "CDC": "tab:green", "MixDL": "tab:brown",
}  # fmt: skip
AXES = {"intra_dist": "diversity (intra_dist)", "near_copies": "near-copies"}


def trade_off(rows: Sequence[Row], name: str, folder: Path) -> None:
    """Diversity above, copies below, against the Fréchet distance: a point a seed, crosses for the sweep."""
    targets = list(dict.fromkeys(row["target"] for row in rows))
    figure, axes = plt.subplots(
        len(AXES), len(targets), figsize=(6 * len(targets), 9), squeeze=False, layout="constrained"
    )
    for column, target in enumerate(targets):
        for line, (key, label) in enumerate(AXES.items()):
            place, told = axes[line][column], set()
            for row in rows:
                x, y = row.get("fd"), row.get(key)
                if row["target"] != target or not x or not y:
                    continue
                base = max((known for known in COLOURS if row["method"].startswith(known)), key=len)
                shown = None if row["group"] == "sweep" or base in told else base
                mark = "x" if row["group"] == "sweep" else "o"
                place.plot(float(x), float(y), mark, color=COLOURS[base], alpha=0.8, label=shown)
                told |= {shown} - {None}
                if row["group"] == "sweep":
                    words = {"fontsize": 7, "xytext": (4, 3), "textcoords": "offset points"}
                    place.annotate(row["method"].removeprefix("DDPM-PA "), (float(x), float(y)), **words)
            place.set_title(target)
            place.set_xlabel("Fréchet distance to true images")
            place.set_ylabel(label)
            place.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.savefig(folder / f"evidence_{name}_trade_off.png", dpi=100, bbox_inches="tight")
    plt.close(figure)


def grids(runs: Sequence[Run], folder: Path) -> None:
    """For each target: the shots, then a row of the first samples of each method, of the first seed."""
    compared = [run for run in runs if run.of.name in SETS and run.measured and run.seed == run.scale.seeds[0]]
    for of, target in dict.fromkeys((run.of, run.target) for run in compared):
        own = [run for run in compared if (run.of, run.target) == (of, target)]
        rows: dict[str, Tensor] = {}
        for run in own:
            if run.method is not None and run.method.group == "methods":
                for name, where in run.measured.items():
                    images = run.folder / where / "images"
                    if (images / f"{COLUMNS - 1:06d}.png").exists():
                        rows[name] = images_in(images)[:COLUMNS]
        if rows:
            side_by_side({"ten shots": shots(own[0])} | rows).save(
                folder / f"evidence_{of.name}_{target}.png", optimize=True
            )


def shots(run: Run) -> Tensor:
    """(10, 3, 64, 64) uint8."""
    if isinstance(run.of, Faces):
        data = SyntheticFaces(domain=run.target, seed=run.seed, shots=SHOTS, num_val=0, image_size=SIZE)
        return data.train_source.read(range(SHOTS))["image"]
    return images_in(run.of.folder(run.root, run.target, run.seed) / "shots")


def side_by_side(rows: dict[str, Tensor]) -> Image.Image:
    """A row of images each, with its title at the left."""
    blank = torch.full((1, 3, SIZE, SIZE), 255, dtype=torch.uint8)
    tiles = torch.cat(
        [torch.cat([images, blank.expand(COLUMNS - len(images), -1, -1, -1)]) for images in rows.values()]
    )
    sheet = Image.fromarray(make_grid(tiles, COLUMNS, padding=1, pad_value=255).permute(1, 2, 0).numpy())
    font = ImageFont.load_default(13)
    margin = max([130, *(8 + int(font.getlength(title)) for title in rows)])
    whole = Image.new("RGB", (margin + sheet.width, sheet.height), "white")
    whole.paste(sheet, (margin, 0))
    pen = ImageDraw.Draw(whole)
    for number, title in enumerate(rows):
        pen.text((4, number * (SIZE + 1) + SIZE // 2 - 8), title, fill="black", font=font)
    return whole
