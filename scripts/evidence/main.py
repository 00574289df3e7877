"""The evidence of docs/evidence.md, repeated by ``make evidence``: methods, targets and seeds on drawn faces.

Each run is a ``tenshot`` command that is printed. What is finished is not done again. Writes results.csv, the plots and
the grids to runs/evidence (or TENSHOT_EVIDENCE). Takes hours on two cores.
"""

import argparse
import csv
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from attributes import DOMAINS, GROUPS, NAMES, AttributeNetwork, load
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from tenshot.cli import main as tenshot
from tenshot.datamodules import SyntheticFaces
from tenshot.metrics import FrechetDistance

ROOT = Path(os.environ.get("TENSHOT_EVIDENCE", "runs/evidence"))
TARGETS, SEEDS, SHOTS, SAMPLES = ("sunglasses", "babies"), (1, 2, 3), 10, 200
FAR = 100_000  # number of a true image that neither training nor a reference reaches


@dataclass(frozen=True)
class Run:
    """One adaptation.

    Args:
        method: As the table calls it.
        target: Domain.
        seed: Of the shots and of training.
        options: What the recipe is changed by.
        group: ``methods`` for the comparison of diffusion methods, ``gans`` for that of GANs, else the sweep it belongs
            to.
        source: The model it starts from, a name of SOURCES; none: from scratch.
    """

    method: str
    target: str
    seed: int
    options: tuple[str, ...] = ()
    group: str = "methods"
    source: str | None = "velocity"

    @property
    def folder(self) -> Path:
        """Where it lives."""
        method = self.method.replace(" + ", "_").replace(" ", "_").replace("=", "")
        return ROOT / self.group / self.target / method / f"seed{self.seed}"

    @property
    def result(self) -> Path | None:
        """The evaluation, if it is done."""
        return next((self.folder / "evaluations").glob("*.json"), None)

    @property
    def data(self) -> list[str]:
        """The options that choose its shots."""
        argv = ["--data.domain", self.target, "--data.shots", str(SHOTS), "--data.num_val", "0"]
        return [*argv, "--data.seed", str(self.seed)]


RECIPES = {
    "from scratch": "configs/ddpm/faces32_scratch_10.yaml",
    "fine-tuned": "configs/ddpm/faces32_finetune.yaml",
    "DDPM-PA": "configs/ddpm_pa/faces32_sunglasses.yaml",
    "StyleGAN2": "configs/stylegan2/faces32_scratch_10.yaml",
    "StyleGAN2 + DiffAugment": "configs/stylegan2/faces32_diffaugment_10.yaml",
    "StyleGAN2 + ADA": "configs/stylegan2/faces32_ada_10.yaml",
    "MixDL": "configs/mixdl/faces32_10.yaml",
    "TGAN": "configs/stylegan2/faces32_tgan_10.yaml",
    "CDC": "configs/cdc/faces32_sunglasses.yaml",
}
SOURCES = {
    "velocity": ["configs/ddpm/faces32_source.yaml"],
    "epsilon": ["configs/ddpm/faces32_source.yaml", "--model.diffusion.prediction", "epsilon"],
    "stylegan2": ["configs/stylegan2/faces32_source.yaml"],
}


def weights(pairs: float, mse: float) -> tuple[str, ...]:
    """Options of the pairwise losses."""
    named = {"image": pairs, "high_frequency": pairs, "high_frequency_mse": mse}
    return tuple(word for name, value in named.items() for word in (f"--model.pairwise.{name}", str(value)))


METHODS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "from scratch": (None, ()),
    "fine-tuned": ("velocity", ()),
    "DDPM-PA 0.1": ("velocity", weights(0.1, 0.05)),
    "DDPM-PA 0.667": ("velocity", weights(0.667, 0.05)),
}
GANS = {
    "StyleGAN2": None, "StyleGAN2 + DiffAugment": None, "StyleGAN2 + ADA": None, "MixDL": None, "TGAN": "stylegan2",
    "CDC": "stylegan2",
}  # fmt: skip
OFFICIAL = (*weights(4, 0.05), "--model.pairwise.direction", "source||adapted", "--model.pairwise.reduction", "mean",
            "--model.pairwise.anchors", "3")  # fmt: skip


def sweeps() -> list[Run]:
    """What moves DDPM-PA between diversity and transfer: one seed, sunglasses."""

    def swept(group: str, name: str, *options: str, source: str = "velocity") -> Run:
        return Run(name, "sunglasses", 1, options, group, source)

    paper = weights(0.667, 0.05)
    return [
        *(
            swept("weights", f"DDPM-PA pairs={pairs:g} mse={mse:g}", *weights(pairs, mse))
            for pairs, mse in ((0.0, 0.05), (0.1, 0.05), (5.0, 0.05), (0.667, 0.0), (0.667, 0.0005), (0.667, 0.5))
        ),
        swept("weights", "DDPM-PA official", *OFFICIAL),
        *(swept("steps", f"DDPM-PA steps={n}", *paper, "--trainer.max_steps", str(n)) for n in (100, 600)),
        *(swept("steps", f"fine-tuned steps={n}", "--trainer.max_steps", str(n)) for n in (50, 100)),
        *(swept("ema", f"DDPM-PA ema={decay}", *paper, "--ema.decay", str(decay)) for decay in (0.9, 0.999)),
        *(swept("noise", f"DDPM-PA mse={mse:g}", *weights(0.667, mse), source="epsilon") for mse in (0.05, 0.0005)),
        swept(
            "noise", "DDPM-PA mse=0.05 min_snr", *paper, "--model.pairwise.mse_weighting", "min_snr", source="epsilon"
        ),
        swept("noise", "fine-tuned", source="epsilon"),
    ]


def runs() -> list[Run]:
    """All of them, the comparison first."""
    compared = [
        Run(method, target, seed, options, "methods", source)
        for seed in SEEDS
        for target in TARGETS
        for method, (source, options) in METHODS.items()
    ]
    gans = [Run(method, target, 1, (), "gans", source) for target in TARGETS for method, source in GANS.items()]
    return compared + sweeps() + gans


def call(argv: list[str]) -> None:
    """Show a command and run it."""
    print("\n$ tenshot " + " ".join(argv), flush=True)
    tenshot(argv)


def trained_source(name: str) -> Path:
    """The run of a source model; trained here if it is not there."""
    folder = ROOT / f"source_{name}"
    if not (folder / "finished").exists():
        call(["fit", "--config", *SOURCES[name], "--trainer.default_root_dir", str(folder), "--ckpt_path", "last"])
        (folder / "finished").touch()
    return folder


def adapt(run: Run) -> None:
    """Train, draw and measure, as far as it is not done."""
    recipe = RECIPES[max((name for name in RECIPES if run.method.startswith(name)), key=len)]
    start = [] if run.source is None else ["--model.init_from", str(trained_source(run.source))]
    if not (run.folder / "finished").exists():
        call([
            "fit", "--config", recipe, *start, *run.data, *run.options, "--seed_everything", str(run.seed),
            "--trainer.default_root_dir", str(run.folder), "--grid.every_n_steps", "0", "--ckpt_path", "last",
        ])  # fmt: skip
        (run.folder / "finished").touch()
    if run.result is None:
        call([
            "test", "--ckpt_path", str(run.folder), *run.data, "--evaluate.features", "random", "--evaluate.samples",
            str(SAMPLES), "--evaluate.paths", str(SAMPLES), "--evaluate.save", str(run.folder / "images"),
            "--strip.every_n_steps", "1" if run.group == "gans" else "0",
        ])  # fmt: skip


def images_in(folder: Path) -> Tensor:
    """(N, 3, H, W) uint8."""
    return torch.stack([pil_to_tensor(Image.open(path)) for path in sorted(folder.glob("*.png"))])


@dataclass
class Truth:
    """A target domain as it is, and what is measured against it.

    Args:
        shots: (K, 3, H, W) uint8.
        copy_limit: Distance to the nearest shot below which an image is called a near-copy: that of the nearest one
            in a hundred true images.
        spread: Of each attribute, as the network reads it off true images.
    """

    shots: Tensor
    copy_limit: float
    spread: Tensor
    real: Tensor = field(repr=False)

    @classmethod
    def of(cls, network: AttributeNetwork, target: str, seed: int) -> "Truth":
        """Draw it."""
        data = SyntheticFaces(domain=target, seed=seed, shots=SHOTS, num_val=0)
        shots = data.train_source.read(range(SHOTS))["image"]
        real = data.reference(SAMPLES, start=FAR).read(range(SAMPLES))["image"]
        limit = to_nearest(real, shots).quantile(0.01).item()
        return cls(shots, limit, network.read(real)[0].std(0), real)

    def measure(self, network: AttributeNetwork, images: Tensor, target: str) -> dict[str, float]:
        """Spread of attributes relative to true images (1: as varied), near-copies, transfer, distance."""
        values, domains = network.read(images)
        relative = dict(zip(NAMES, (values.std(0) / self.spread).tolist(), strict=True))
        measured = {
            f"spread of {group}": sum(relative[n] for n in names) / len(names) for group, names in GROUPS.items()
        }
        measured["spread"] = sum(relative.values()) / len(relative)
        measured["near-copies"] = (to_nearest(images, self.shots) < self.copy_limit).float().mean().item()
        measured["transfer"] = domains[:, DOMAINS.index(target)].mean().item()
        distance = FrechetDistance(network)
        distance.update(self.real, real=True)
        distance.update(images)
        return measured | distance.report().values


def to_nearest(images: Tensor, shots: Tensor) -> Tensor:
    """Root mean squared distance to the nearest shot or its mirror image, in grey levels: (N,)."""
    both = torch.cat([shots, shots.flip(-1)]).flatten(1).float()
    return torch.cdist(images.flatten(1).float(), both).amin(1) / both.shape[1] ** 0.5


def main() -> None:
    """Do what is left to do, then measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=sorted({run.group for run in runs()}), nargs="+", help="only these runs")
    parser.add_argument("--shard", metavar="I/N", help="adapt every N-th run from the I-th on, and measure nothing")
    parser.add_argument("--finished", action="store_true", help="measure what is finished, and adapt nothing more")
    args = parser.parse_args()
    wanted = [run for run in runs() if not args.group or run.group in args.group]
    if args.shard:
        first, step = map(int, args.shard.split("/"))
        for run in wanted[first::step]:
            adapt(run)
        return
    if args.finished:
        wanted = [run for run in wanted if run.result is not None]
    network = load(ROOT)
    rows: list[dict[str, str | float | None]] = []
    for target in TARGETS:
        for seed in SEEDS:
            truth = Truth.of(network, target, seed)
            again = SyntheticFaces(domain=target, seed=seed, num_val=0).reference(SAMPLES, start=2 * FAR)
            about: dict[str, str | float | None] = {"group": "methods", "method": "true images", "target": target}
            rows.append(about | {"seed": seed} | truth.measure(network, again.read(range(SAMPLES))["image"], target))
    for run in wanted:
        adapt(run)
        assert run.result is not None
        measured = Truth.of(network, run.target, run.seed).measure(
            network, images_in(run.folder / "images"), run.target
        )
        about = {"group": run.group, "method": run.method, "target": run.target, "seed": run.seed}
        rows.append(about | measured | json.loads(run.result.read_text())["values"])
        write(rows)


def write(rows: list[dict[str, str | float | None]]) -> None:
    """All that is known so far."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(ROOT / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
