"""The demo: source models that come with Tenshot, adapted to ten images in three ways, side by side.

Run by ``make demo``; ``make demo-full`` trains the sources too. Each stage is the ``tenshot`` commands that it prints,
two at a time on a CPU of two cores or more. What is finished is not done again, and a stage that was stopped goes on
from its last checkpoint. Ends in a table, an image and a page, in runs/demo64 (or TENSHOT_DEMO).
"""

import argparse
import csv
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table
from stages import Stage, StageFailed, lanes, run_stages
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from tenshot.callbacks.image_writer import write_png
from tenshot.checkpoints.shipped import shipped_file
from tenshot.cli import main as tenshot
from tenshot.datamodules import SyntheticFaces
from tenshot.errors import InputError

STEPS = {"DDPM-PA": 110, "fine-tuned": 110, "CDC": 80}
"""Of training, the longest stage first: what five minutes of two cores hold."""
SOLVER_STEPS = 10
SHOTS, COLUMNS, SAMPLES, SIZE, SCALE = 10, 10, 100, 64, 2
FAR = 100_000  # number of a true image that neither training nor the reference reaches

SOURCE = {"DDPM-PA": "faces64", "fine-tuned": "faces64", "CDC": "faces64_stylegan2"}
KINDS = {"faces64": "a diffusion model", "faces64_stylegan2": "a StyleGAN2"}
RECIPES = {
    "DDPM-PA": "configs/ddpm_pa/faces64_sunglasses.yaml",
    "fine-tuned": "configs/ddpm/faces64_finetune.yaml",
    "CDC": "configs/cdc/faces64_sunglasses.yaml",
}
METHODS = ("fine-tuned", "DDPM-PA", "CDC")
"""As table and picture show them."""
SOLVER = ("--model.sampler.method", "dpm_solver", "--model.sampler.steps", str(SOLVER_STEPS))
TARGET = (
    "--data", "SyntheticFaces", "--data.domain", "sunglasses", "--data.shots", str(SHOTS), "--data.seed", "1",
    "--data.num_val", "0", "--data.image_size", str(SIZE),
)  # fmt: skip
MEASURES = {  # what the table shows of what tenshot test computes
    "fd_efficientnet_lite0": "distance to true sunglasses",
    "precision_efficientnet_lite0": "precision",
    "recall_efficientnet_lite0": "recall",
    "intra_dist_efficientnet_lite0": "diversity around each shot",
    "pairwise_dist_efficientnet_lite0": "diversity",
    "nearest_dist_efficientnet_lite0": "distance to the nearest shot",
    "near_copies_efficientnet_lite0": "share of near-copies of a shot",
}
EVALUATION = (
    "--evaluate.features", "efficientnet_lite0", "--evaluate.samples", str(SAMPLES), "--evaluate.reference",
    str(SAMPLES), "--evaluate.metrics",
    "[frechet, precision_recall, intra_lpips, pairwise_lpips, nearest_lpips, near_copies]",
)  # fmt: skip


def fast_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere it is many times slower than float32."""
    return torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def stages_of(root: Path, sources: dict[str, str]) -> list[Stage]:
    """What is done, in the order in which it begins.

    Args:
        root: Folder of the demo.
        sources: Where the source models are, by their names.
    """
    device = ["--trainer.accelerator", "gpu", "--trainer.devices", "1"] if torch.cuda.is_available() else []
    device += ["--trainer.precision", "bf16-mixed"] if fast_bf16() else []

    def sampler(source: str) -> tuple[str, ...]:
        return () if source.endswith("stylegan2") else SOLVER

    drawn = tuple(
        ("predict", "--ckpt_path", path, *sampler(name), "--images.count", str(COLUMNS), "--images.dir",
         str(root / "sources" / name))
        for name, path in sources.items()
    )  # fmt: skip
    stages = [Stage("sources", drawn, root / "sources")]
    for name, steps in STEPS.items():
        if SOURCE[name] not in sources:
            continue
        folder = root / name
        fit = ("fit", "--config", RECIPES[name], "--model.init_from", sources[SOURCE[name]], "--trainer.max_steps",
               str(steps), "--grid.every_n_steps", "0", *device, "--trainer.default_root_dir", str(folder),
               "--ckpt_path", "last")  # fmt: skip
        test = ("test", "--ckpt_path", str(folder), *sampler(SOURCE[name]), *EVALUATION, "--evaluate.save",
                str(folder / "images"))  # fmt: skip
        stages.append(Stage(name, (fit, test), folder))
    truth = ("test", "--model", "FolderGenerator", "--model.root", str(root / "truth/images"), *TARGET, *EVALUATION,
             "--trainer.default_root_dir", str(root / "truth"))  # fmt: skip
    return [*stages, Stage("true images", (truth,), root / "truth")]


def found_sources(folder: Path | None) -> dict[str, str]:
    """Where the sources are: in the package, or in a folder. What the package has not yet is said.

    Raises:
        InputError: There is none, or one is not in the folder.
    """
    found = {}
    for name in dict.fromkeys(SOURCE.values()):
        path = f"tenshot:{name}" if folder is None else str(folder / f"{name}.safetensors")
        if folder is not None and not Path(path).exists():
            raise InputError(f"{path}: is not there: `make demo-full` trains it")
        try:
            shipped_file(path)
        except InputError:
            left = " and ".join(method for method in METHODS if SOURCE[method] == name)
            print(f"without {left}: {path} does not come with this version (`make demo-full` trains it)", flush=True)
        else:
            found[name] = path
    if not found:
        raise InputError("no source comes with this version: `make demo-full` trains them first, in some hours")
    return found


def images_in(folder: Path) -> Tensor:
    """The first samples in a folder: (COLUMNS, 3, H, W) uint8."""
    return torch.stack([pil_to_tensor(Image.open(folder / f"{i:06d}.png")) for i in range(COLUMNS)])


def rows_of(root: Path, shots: Tensor, sources: Sequence[str], methods: Sequence[str]) -> dict[str, Tensor]:
    """The shots, and each source above the methods that start from it: in a column from the same noise."""
    rows = {"the ten shots": shots}
    for source in sources:
        rows[f"source model, {KINDS[source]}"] = images_in(root / "sources" / source)
        for name in methods:
            if SOURCE[name] == source:
                rows[f"{name}, from the same noise in each column"] = images_in(root / name / "images")
    return rows


def side_by_side(rows: dict[str, Tensor]) -> Image.Image:
    """Rows of images, each with its title."""
    side, font, gap = SIZE * SCALE, ImageFont.load_default(15), 22
    sheet = Image.new("RGB", (COLUMNS * side, len(rows) * (side + gap)), "white")
    pen = ImageDraw.Draw(sheet)
    for line, (title, images) in enumerate(rows.items()):
        top = line * (side + gap)
        pen.text((4, top + 2), title, fill="black", font=font)
        for column, image in enumerate(images[:COLUMNS]):
            tile = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(tile, (column * side, top + gap))
    return sheet


def values_of(folder: Path) -> dict[str, float | None]:
    """What ``tenshot test`` has measured."""
    [result] = (folder / "evaluations").glob("*.json")
    return json.loads(result.read_text())["values"]


def minutes_of(folder: Path) -> float:
    """What training has cost, by the run's own record."""
    last = max((folder / "checkpoints").glob("step=*.ckpt"))
    return 60 * torch.load(last, map_location="cpu", weights_only=True, mmap=True)["speed"]["device_hours"]


def table(root: Path, methods: Sequence[str]) -> list[list[str]]:
    """Names of values, what they mean, and the values: rows, the first of them titles."""
    columns = [values_of(root / "truth"), *(values_of(root / name) for name in methods)]
    lines = [
        [name, title, *("undefined" if (v := column[name]) is None else f"{v:.3g}" for column in columns)]
        for name, title in MEASURES.items()
    ]
    cost = ["", "minutes of training", "", *(f"{minutes_of(root / name):.1f}" for name in methods)]
    return [["", "", "true images", *methods], *lines, cost]


def main() -> None:
    """Draw, train, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, help="folder of source models, in place of those of the package")
    folder = parser.parse_args().sources
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; the same command goes on"))  # and the stages with it
    root = Path(os.environ.get("TENSHOT_DEMO", "runs/demo64" if folder is None else "runs/demo64_full"))
    try:
        demonstrate(root, found_sources(folder))
    except (InputError, StageFailed) as error:
        sys.exit(f"demo.py: error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on")


def demonstrate(root: Path, sources: dict[str, str]) -> None:
    """The whole demo, as far as it is not done."""
    target = SyntheticFaces(domain="sunglasses", image_size=SIZE, shots=SHOTS, seed=1, num_val=0)
    for number, pixels in enumerate(target.reference(SAMPLES, start=FAR).read(range(SAMPLES))["image"]):
        write_png(pixels.permute(1, 2, 0), root / "truth" / "images" / f"{number:06d}.png")
    shots = target.train_source.read(range(SHOTS))["image"]
    image, methods = root / "image.png", [name for name in METHODS if SOURCE[name] in sources]
    at_a_time, threads = lanes()
    for stage in run_stages(stages_of(root, sources), at_a_time, threads):
        if stage.name == "sources":
            side_by_side(rows_of(root, shots, list(sources), ())).save(image)
            print(f"the shots and samples of the sources: {image.resolve()}", flush=True)
    side_by_side(rows_of(root, shots, list(sources), methods)).save(image)

    header, *lines = table(root, methods)
    with open(root / "table.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    shown = Table(*header, title=f"{SAMPLES} samples each, features of EfficientNet-Lite0")
    for line in lines:
        shown.add_row(*line)
    Console(width=130).print(shown)
    tenshot(["compare", *(str(root / name) for name in (*methods, "truth")), "--output", str(root / "comparison")])
    print(f"table   {(root / 'table.csv').resolve()}\nimage   {image.resolve()}")
    print(f"page    {(root / 'comparison' / 'index.html').resolve()}")


if __name__ == "__main__":
    main()
