"""The demo: a source model, adapted to ten pictures, beside one trained on them from scratch; a table and a picture.

Run by ``make demo``. Each stage is the ``tenshot`` command that it prints. What is finished is not done again, and a
stage that was stopped goes on from its last checkpoint.
"""

import csv
import os
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from tenshot.cli import main as tenshot
from tenshot.datamodules import SyntheticFaces
from tenshot.lightning_modules.runs import newest_checkpoint

ROOT = Path(os.environ.get("TENSHOT_DEMO", "runs/demo"))
SHOTS, COLUMNS, SAMPLES, SCALE = 10, 10, 40, 3

STAGES = {
    "source": ["--config", "configs/ddpm/faces32_source.yaml"],
    "fine-tuned": ["--config", "configs/ddpm/faces32_finetune.yaml", "--model.init_from", str(ROOT / "source")],
    "from scratch": ["--config", "configs/ddpm/faces32_scratch_10.yaml"],
}


def fast_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere it is many times slower than float32."""
    return torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def run(words: list[str]) -> None:
    """Show a command and run it."""
    print("\n$ tenshot " + " ".join(words), flush=True)
    tenshot(words)


def train(name: str, options: list[str]) -> float:
    """Train one stage, from wherever it stands; minutes it took in all."""
    folder = ROOT / name.replace(" ", "-")
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


def draw(name: str) -> Tensor:
    """Draw samples of one stage from the same seeds: (N, 3, H, W) uint8."""
    folder = ROOT / name.replace(" ", "-")
    images = folder / "images"
    if len(list(images.glob("*.png"))) < SAMPLES:
        run(["predict", "--ckpt_path", str(folder), "--images.dir", str(images), "--images.count", str(SAMPLES)])
    return torch.stack([pil_to_tensor(Image.open(images / f"{i:06d}.png")) for i in range(SAMPLES)])


def rmse(a: Tensor, b: Tensor) -> Tensor:
    """Root mean squared differences of all pairs, in grey levels: uint8 (N, 3, H, W), (M, 3, H, W) -> (N, M)."""
    a, b = a.flatten(1).double(), b.flatten(1).double()
    return torch.cdist(a, b) / a.shape[1] ** 0.5


def row(name: str, images: Tensor, shots: Tensor, steps: str, minutes: str) -> list[str]:
    """What the table says of one set of pictures."""
    pairs = rmse(images, images)
    spread = pairs[~torch.eye(len(pairs), dtype=torch.bool)].mean()
    to_shots = torch.minimum(rmse(images, shots), rmse(images, shots.flip(-1))).amin(1)
    copies = (to_shots < 10).double().mean()
    return [name, steps, minutes, f"{spread:.1f}", f"{to_shots.mean():.1f}", f"{copies:.0%}"]


def picture(rows: dict[str, Tensor]) -> Image.Image:
    """Rows of pictures, each with its title."""
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
    """Train, draw, compare."""
    ROOT.mkdir(parents=True, exist_ok=True)
    minutes = {name: train(name, options) for name, options in STAGES.items()}
    samples = {name: draw(name) for name in STAGES}

    target = SyntheticFaces(domain="sunglasses", shots=SHOTS, seed=1)
    shots = target.train_source.read(range(SHOTS))["image"]
    truth = target.reference(SAMPLES).read(range(SAMPLES))["image"]

    header = ["", "steps", "minutes", "spread", "to nearest shot", "near-copies"]
    lines = [row("true sunglasses", truth, shots, "", "")]
    for name, images in samples.items():
        newest = newest_checkpoint(ROOT / name.replace(" ", "-"))
        steps = newest.stem.split("=")[1].lstrip("0") if newest else ""
        lines.append(row(name, images, shots, steps, f"{minutes[name]:.1f}"))
    with open(ROOT / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    sheet = picture(
        {"the ten shots": shots} | {f"{name} (same noise in each column)": x for name, x in samples.items()}
    )
    sheet.save(ROOT / "picture.png")

    table = Table(*header, title=f"{SAMPLES} pictures each; pixel distances in grey levels (root mean square)")
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    print(f"table   {(ROOT / 'table.csv').resolve()}\npicture {(ROOT / 'picture.png').resolve()}")


if __name__ == "__main__":
    main()
