"""The source models that come with the package: train, convert, draw and measure them, and write docs/sources.md.

Run by ``make sources``; ``python scripts/sources.py NAME…`` does only those. Each stage is the ``tenshot`` command that
it prints. What is finished is not done again, and training that was stopped goes on from its last checkpoint. What a
source is measured with lies in runs/sources (or TENSHOT_SOURCES).
"""

import argparse
import hashlib
import json
import os
import platform
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import make_grid, save_image

from tenshot.callbacks.image_writer import write_png
from tenshot.checkpoints import shipped
from tenshot.cli import main as tenshot
from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import InputError
from tenshot.lightning_modules import NoisyClassifier

TOP = Path(__file__).parents[1]
ROOT = Path(os.environ.get("TENSHOT_SOURCES", "runs/sources"))
RECORD, PAGE, GRIDS = TOP / "docs/sources.json", TOP / "docs/sources.md", TOP / "docs/images"
BEGIN, END = "<!-- scripts/sources.py writes this -->\n", "<!-- to here -->\n"
SAMPLES, GRID, COMPARED = 500, 40, 16
"""Images of which the Fréchet distance is; those that are shown; those drawn from the weights of both precisions."""
FAR = 100_000  # number of a true image that neither training nor the reference reaches
FD = "fd_efficientnet_lite0"
LEVELS = (0.999, 0.9, 0.5, 0.1)
"""Of noise, as alpha-bar: the share of the image in the variance."""


@dataclass(frozen=True)
class Source:
    """A source that comes with the package.

    Args:
        recipe: What trains it.
        about: What it draws or tells.
        held_out: Archive of true images that it was not trained on; none where they are drawn faces.
    """

    recipe: str
    about: str
    held_out: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What the recipe says."""
        return yaml.safe_load((TOP / self.recipe).read_text())

    @property
    def run(self) -> Path:
        """The folder that the recipe trains in."""
        return Path(self.settings["trainer"]["default_root_dir"])

    @property
    def last(self) -> Path:
        """The checkpoint that it ends with."""
        return self.run / "checkpoints" / f"step={self.settings['trainer']['max_steps']:08d}.ckpt"


SOURCES = {
    "faces64": Source("configs/ddpm/faces64_source.yaml", "drawn faces, a diffusion model"),
    "faces64_stylegan2": Source("configs/stylegan2/faces64_source.yaml", "drawn faces, a StyleGAN2"),
    "avatars64": Source(
        "configs/ddpm/avatars64_source.yaml", "Avataaars, a diffusion model", "data/avataaars64_held_out.zip"
    ),
    "faces64_classifier": Source("configs/ddpm/faces64_classifier.yaml", "classifier of noisy drawn faces, 9 classes"),
}
Facts = dict[str, Any]


def call(*argv: str) -> None:
    """Show a command and run it."""
    print("\n$ tenshot " + " ".join(argv), flush=True)
    tenshot(list(argv))


def file_of(name: str) -> Path:
    """The converted file of a source, before it is put into the package."""
    return ROOT / f"{name}.safetensors"


def train(name: str) -> Path:
    """Train a source as far as it is not, and convert it; its file."""
    source = SOURCES[name]
    data = source.settings["data"]["init_args"].get("root")
    for needed in filter(None, (data, source.held_out)):
        if not Path(needed).exists():
            raise InputError(f"{needed}: is not there, and {name} needs it: `make avatars` draws it")
    if not source.last.exists():
        device = ["--trainer.accelerator", "gpu", "--trainer.devices", "1"] if torch.cuda.is_available() else []
        call("fit", "--config", source.recipe, *device, "--ckpt_path", "last")
    file = file_of(name)
    if not file.exists() or file.stat().st_mtime < source.last.stat().st_mtime:  # again, its bytes may differ
        call("convert", str(source.last), str(file), "--half", "true")
    return file


def processor() -> str:
    """What this machine computes with."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    named = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    )
    return named[0].partition(":")[2].strip() if named else platform.processor()


def sha256(file: Path) -> str:
    """Of its content, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def ship(name: str) -> Facts:
    """Put a trained source into the package; what is to be known of it."""
    file, source = file_of(name), SOURCES[name]
    place = ROOT / name / sha256(file)[:12]  # what was measured is of these weights
    speed = torch.load(source.last, map_location="cpu", weights_only=True, mmap=True)["speed"]
    facts: Facts = {
        "sha256": sha256(file),
        "bytes": file.stat().st_size,
        "minutes": round(60 * speed["device_hours"]),
        "processor": processor(),
    }
    if source.settings["model"]["class_path"] == "NoisyClassifier":
        facts["accuracy"] = accuracy(file, source)
    else:
        facts |= measure(name, file, place)
        images = [pil_to_tensor(Image.open(place / f"images/{i:06d}.png")) for i in range(min(SAMPLES, GRID))]
        save_image(make_grid(torch.stack(images).float() / 255, nrow=10, padding=1), GRIDS / f"source_{name}.png")
    inside = shipped.FOLDER / file.name
    inside.with_suffix(".part").write_bytes(file.read_bytes())
    inside.with_suffix(".part").replace(inside)
    return facts


def measure(name: str, file: Path, place: Path) -> Facts:
    """Fréchet distance of its samples to true images, and of as many other true images to these; effect of rounding."""
    source = SOURCES[name]
    sampler = source.settings["model"]["init_args"].get("sampler", {})
    options = [word for key, value in sampler.items() for word in (f"--model.sampler.{key}", str(value))]
    data, truth = held_out(source, place)
    compared = ["--evaluate.metrics", "[frechet]", "--evaluate.features", "efficientnet_lite0"]
    compared += ["--evaluate.samples", str(SAMPLES), "--evaluate.reference", str(SAMPLES)]
    models = {
        "fd": ["--ckpt_path", str(file), *options, "--evaluate.save", str(place / "images")],
        "fd_of_truth": ["--model", "FolderGenerator", "--model.root", str(truth)],
    }
    facts: Facts = {"samples": SAMPLES}
    for fact, model in models.items():
        results = place / fact / "evaluations"
        if not list(results.glob("*.json")):
            call("test", *model, *data, *compared, "--trainer.default_root_dir", str(place / fact))
        [result] = results.glob("*.json")
        facts[fact] = json.loads(result.read_text())["values"][FD]
    full = place / "full_precision"
    call("predict", "--ckpt_path", str(source.last), "--images.dir", str(full), "--images.count", str(COMPARED))
    pairs = [[pil_to_tensor(Image.open(folder / f"{i:06d}.png")).float() for i in range(COMPARED)]
             for folder in (full, place / "images")]  # fmt: skip
    differences = (torch.stack(pairs[0]) - torch.stack(pairs[1])).abs()
    return facts | {"largest_difference": int(differences.max()), "mean_difference": differences.mean().item()}


def held_out(source: Source, place: Path) -> tuple[list[str], Path]:
    """The options of the data whose reference is true images, and a folder of as many others."""
    size, truth = str(source.settings["data"]["init_args"]["image_size"]), place / "truth"
    if source.held_out is None:
        faces = SyntheticFaces(image_size=int(size), seed=source.settings["data"]["init_args"]["seed"])
        write_all(faces.reference(SAMPLES, start=FAR).read(range(SAMPLES))["image"], truth)
        return ["--data", "SyntheticFaces", "--data.image_size", size], truth
    reference = place / "reference"
    with zipfile.ZipFile(source.held_out) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        for folder, some in ((reference, names[:SAMPLES]), (truth, names[SAMPLES : 2 * SAMPLES])):
            images = [pil_to_tensor(Image.open(archive.open(name)).convert("RGB")) for name in some]
            write_all(images, folder)
    root = source.settings["data"]["init_args"]["root"]
    folders = ["--data.root", root, "--data.val_root", str(reference)]
    return ["--data", "ImageFolder", *folders, "--data.image_size", size], truth


def write_all(images: Iterable[Tensor], folder: Path) -> None:
    """Of (3, H, W) uint8, PNGs."""
    for number, pixels in enumerate(images):
        write_png(pixels.permute(1, 2, 0), folder / f"{number:06d}.png")


@torch.inference_mode()
def accuracy(file: Path, source: Source) -> dict[str, float]:
    """Share of held-out images whose class is told, by alpha-bar."""
    module = NoisyClassifier(init_from=str(file))
    module.configure_model()
    data = source.settings["data"]["init_args"]
    faces = SyntheticFaces(image_size=data["image_size"], labels=True, seed=data["seed"])
    held = faces.reference(SAMPLES).read(range(SAMPLES))
    x, labels = from_pixels(held["image"]), held["label"]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    process, right = module.diffusion, {}
    for level in LEVELS:
        step = int(np.abs(process.alphas_cumprod - level).argmin())
        t = torch.full((len(x),), step)
        noisy = process.q_sample(x, t, noise).split(50)
        logits = [module.classifier.eval()(part, process.model_timesteps(t[: len(part)])) for part in noisy]
        right[f"{level:g}"] = (torch.cat(logits).argmax(1) == labels).float().mean().item()
    return right


def block(record: dict[str, Facts]) -> str:
    """What the page says of the sources, as Markdown."""
    lines = ["| source | what | size | Fréchet distance | between true images | trained in |", "|---" * 6 + "|"]
    grids = []
    for name, source in SOURCES.items():
        facts = record.get(name)
        if facts is None:
            lines.append(f"| `tenshot:{name}` | {source.about} | not trained yet | | | |")
            continue
        if "accuracy" in facts:
            told = [
                f"{share:.0%} right where the image is {float(level):.1%}" for level, share in facts["accuracy"].items()
            ]
            values = f"none; {', '.join(told)} of the variance (chance {1 / 9:.0%}) | "
        else:
            values = f"{facts['fd']:.1f} | {facts['fd_of_truth']:.1f}"
            grids.append(
                f"![Forty samples of {name}](images/source_{name}.png)\n\n*`tenshot:{name}`, samples 0 to 39. 16 bits "
                f"a weight instead of 32 change a pixel by {facts['mean_difference']:.2f} of 255 levels in the mean, "
                f"by {facts['largest_difference']} at most.*\n"
            )
        cost = f"{facts['minutes']} minutes, {facts['processor']}"
        lines.append(f"| `tenshot:{name}` | {source.about} | {facts['bytes'] / 1e6:.1f} MB | {values} | {cost} |")
    commands = [f"    tenshot fit --config {source.recipe}" for source in SOURCES.values()]
    sums = [f"    {record[name]['sha256']}  {name}.safetensors" for name in SOURCES if name in record]
    parts = ["\n".join(lines), "Trained by\n\n" + "\n".join(commands)]
    parts += ["SHA-256\n\n" + "\n".join(sums)] if sums else []
    return "\n\n".join([*parts, *grids]).rstrip() + "\n\n"


def publish(record: dict[str, Facts]) -> None:
    """Write what is known of the sources, and the page."""
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + block(record) + END + rest.split(END)[1])


def main() -> None:
    """Do what is left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(SOURCES)}")
    parser.add_argument("--only-train", action="store_true", help="leave the package and docs/ as they are")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - SOURCES.keys())
    if unknown:
        parser.error(f"there is no source {unknown[0]}: choose from {', '.join(SOURCES)}")
    for name in args.names or SOURCES:
        try:
            train(name)
            if not args.only_train:
                publish(json.loads(RECORD.read_text()) | {name: ship(name)})
        except InputError as error:
            parser.exit(1, f"sources.py: error: {error}\n")


if __name__ == "__main__":
    main()
