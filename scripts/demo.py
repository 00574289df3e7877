"""The demo: a source model, adapted to ten images in two ways, beside one trained on them from scratch.

Run by ``make demo``. Each stage is the ``tenshot`` command that it prints. What is finished is not done again, and a
stage that was stopped goes on from its last checkpoint. Ends in a table, an image and a page.
"""

import csv
import json
import os
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from tenshot.callbacks.image_writer import write_png
from tenshot.cli import main as tenshot
from tenshot.datamodules import SyntheticFaces

ROOT = Path(os.environ.get("TENSHOT_DEMO", "runs/demo"))
SHOTS, COLUMNS, SAMPLES, SCALE = 10, 10, 100, 3
FAR = 100_000  # number of a true image that neither training nor the reference reaches

SOURCE = ROOT / "source"
STAGES = {
    "source": ["--config", "configs/ddpm/faces32_source.yaml"],
    "fine-tuned": ["--config", "configs/ddpm/faces32_finetune.yaml", "--model.init_from", str(SOURCE)],
    "DDPM-PA": ["--config", "configs/ddpm_pa/faces32_sunglasses.yaml", "--model.init_from", str(SOURCE)],
    "from scratch": ["--config", "configs/ddpm/faces32_scratch_10.yaml"],
}
TARGET = ["--data.domain", "sunglasses", "--data.shots", str(SHOTS), "--data.seed", "1", "--data.num_val", "0"]
MEASURES = {  # what the table shows of what tenshot test computes
    "fd_random": "distance to true sunglasses",
    "precision_random": "precision",
    "recall_random": "recall",
    "intra_dist_random": "diversity around each shot",
    "pairwise_dist_random": "diversity",
    "nearest_dist_random": "distance to the nearest shot",
}
EVALUATION = ["--evaluate.features", "random", "--evaluate.samples", str(SAMPLES)]


def fast_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere it is many times slower than float32."""
    return torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def run(argv: list[str]) -> None:
    """Show a command and run it."""
    print("\n$ tenshot " + " ".join(argv), flush=True)
    tenshot(argv)


def folder_of(name: str) -> Path:
    """The run's folder of a stage."""
    return ROOT / name.replace(" ", "-")


def train(name: str, options: list[str]) -> float:
    """Train one stage, from wherever it stands; minutes it took in all."""
    folder = folder_of(name)
    clock = folder / "seconds.txt"
    spent = float(clock.read_text()) if clock.exists() else 0.0
    if not (folder / "finished").exists():
        start = time.monotonic()
        precision = ["--trainer.precision", "bf16-mixed"] if fast_bf16() else []
        run(["fit", *options, "--trainer.default_root_dir", str(folder), *precision, "--ckpt_path", "last"])
        spent += time.monotonic() - start
        clock.write_text(str(spent))
        (folder / "finished").touch()
    return spent / 60


def test(name: str, argv: list[str]) -> dict[str, float | None]:
    """Measure one stage against sunglasses, and keep the samples; the values of the table."""
    results = folder_of(name) / "evaluations"
    if not list(results.glob("*.json")):
        run(["test", *argv, *TARGET, *EVALUATION, "--trainer.default_root_dir", str(folder_of(name))])
    [result] = results.glob("*.json")
    return json.loads(result.read_text())["values"]


def samples(name: str) -> Tensor:
    """The first samples of a stage: (COLUMNS, 3, H, W) uint8."""
    return torch.stack([pil_to_tensor(Image.open(folder_of(name) / f"images/{i:06d}.png")) for i in range(COLUMNS)])


def side_by_side(rows: dict[str, Tensor]) -> Image.Image:
    """Rows of images, each with its title."""
    side, font, gap = 32 * SCALE, ImageFont.load_default(15), 22
    sheet = Image.new("RGB", (COLUMNS * side, len(rows) * (side + gap)), "white")
    pen = ImageDraw.Draw(sheet)
    for line, (title, images) in enumerate(rows.items()):
        top = line * (side + gap)
        pen.text((4, top + 2), title, fill="black", font=font)
        for column, image in enumerate(images[:COLUMNS]):
            tile = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(tile, (column * side, top + gap))
    return sheet


def main() -> None:
    """Train, draw, measure, compare."""
    ROOT.mkdir(parents=True, exist_ok=True)
    target = SyntheticFaces(domain="sunglasses", shots=SHOTS, seed=1, num_val=0)
    truth = ROOT / "truth" / "images"
    for number, pixels in enumerate(target.reference(SAMPLES, start=FAR).read(range(SAMPLES))["image"]):
        write_png(pixels.permute(1, 2, 0), truth / f"{number:06d}.png")

    minutes = {name: train(name, options) for name, options in STAGES.items()}
    faces = ["--data", "SyntheticFaces", "--data.image_size", "32"]
    values = {"truth": test("truth", ["--model", "FolderGenerator", "--model.root", str(truth), *faces])}
    for name in STAGES:
        argv = ["--ckpt_path", str(folder_of(name)), "--evaluate.save", str(folder_of(name) / "images")]
        values[name] = test(name, argv)

    header = ["", "", "true images", *STAGES]
    lines = [
        [name, title, *("undefined" if (v := column[name]) is None else f"{v:.3g}" for column in values.values())]
        for name, title in MEASURES.items()
    ]
    lines.append(["", "minutes of training", "", *(f"{minutes[name]:.1f}" for name in STAGES)])
    with open(ROOT / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    shots = target.train_source.read(range(SHOTS))["image"]
    titles = {name: f"{name} (same noise in each column)" for name in STAGES}
    side_by_side({"the ten shots": shots} | {titles[name]: samples(name) for name in STAGES}).save(ROOT / "image.png")

    table = Table(*header, title=f"{SAMPLES} samples each; networks with random weights, so no FID and no LPIPS")
    for line in lines:
        table.add_row(*line)
    Console(width=130).print(table)
    run(["compare", *(str(folder_of(name)) for name in [*STAGES, "truth"]), "--output", str(ROOT / "comparison")])
    print(f"table   {(ROOT / 'table.csv').resolve()}\nimage {(ROOT / 'image.png').resolve()}")
    print(f"page    {(ROOT / 'comparison' / 'index.html').resolve()}")


if __name__ == "__main__":
    main()
