"""Every method trains in every precision at 32 px, draws and is measured, through the real command line."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.gpu import layouts
from benchmarks.gpu.commands import (
    Config,
    checkpoint,
    config_file,
    diffusion,
    faces,
    gan,
    logged,
    source_of,
    tenshot,
)
from benchmarks.gpu.record import Context, Values

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
LEARNED = {"num_steps": 1000, "schedule": "cosine", "variance": "learned_range"}
CLASSES = 9
THOROUGH = "ddpm"
"""The method that draws and is measured dry too."""
ADAPTED = {"ddpmpa": "DDPMPA", "tgan": "StyleGAN2", "cdc": "CDC"}


def run(context: Context, part: str) -> None:
    """A part: a method, ``layouts`` or ``folders``."""
    if part == "layouts":
        layouts.run(context)
        return
    if part == "folders":
        folders(context)
        return
    source: list[Path] = []
    if part in ADAPTED or part == "classifier":
        with context.check("methods", f"source of {part}"):
            model = diffusion(context) if part in ("ddpmpa", "classifier") else gan(context)
            source.append(source_of(context, model))
        if not source:
            return
    dry = PRECISIONS[:1] if part in ("learned", "ddpmpa", "classifier") else PRECISIONS[1:2]
    for precision in dry if context.dry else PRECISIONS:
        runs: list[Path] = []
        with context.check("methods", f"{part} {precision} fit") as values:
            folder, seen = trained(context, part, precision, source)
            runs.append(folder)
            values.update(seen)
            assert all(isinstance(loss, float) for loss in seen["losses"]), "losses that are not finite"
        if runs and (part == THOROUGH or not context.dry):
            drawn_from = source[0] if part == "classifier" else runs[0]
            guide = ["--model.guidance.classifier", runs[0]] if part == "classifier" else []
            context.run("methods", f"{part} {precision} predict", lambda r=drawn_from, g=guide: drawn(context, r, *g))
            if part != "classifier":
                context.run("methods", f"{part} {precision} test", lambda r=runs[0]: measured(context, r))


def model_of(context: Context, part: str, source: list[Path]) -> tuple[Config, Config]:
    """The model and the data of a method."""
    shots = faces(domain="sunglasses", shots=10, seed=1, batch_size=4 if context.dry else 8)
    plain = faces(batch_size=4 if context.dry else 16)
    augmentations = {
        "ada": {"class_path": "AdaptiveAugment", "init_args": {"images_to_full": 500}},
        "diffaugment": {"class_path": "DiffAugment"},
    }
    start: dict[str, Any] = {"init_from": str(source[0])} if source else {}
    if part == "ddpm":
        return diffusion(context), plain
    if part == "learned":
        model = diffusion(context, diffusion=LEARNED, objective="vlb", timesteps="loss_aware")
        model["init_args"]["unet"] |= {"out_channels": 6, "dropout": 0.1}
        return model, plain
    if part == "classifier":
        unet = diffusion(context)["init_args"]["unet"] | {"out_channels": CLASSES}
        optimizer = diffusion(context)["init_args"]["optimizer"]
        return {"class_path": "NoisyClassifier", "init_args": {"classifier": unet, "optimizer": optimizer}}, faces(
            labels=True, batch_size=4 if context.dry else 16
        )
    if part == "ddpmpa":
        return diffusion(context, "DDPMPA", collapse_every_n_steps=10, **start), shots
    if part in augmentations:
        return gan(context, augmentation=augmentations[part]), shots
    if part == "mixdl":
        return gan(context, "MixDL"), shots
    return gan(context, ADAPTED.get(part, "StyleGAN2"), **start), shots if source else plain


def trained(context: Context, part: str, precision: str, source: list[Path]) -> tuple[Path, Values]:
    """A run of twenty steps, and what there is to say of it."""
    model, data = model_of(context, part, source)
    return fit(context, f"{part}_{precision}", model, 2 if context.dry else 20, precision, data)


def fit(
    context: Context, name: str, model: Config, steps: int, precision: str, data: Config | None = None
) -> tuple[Path, Values]:
    """Train, and check that all that was logged is finite."""
    folder, seen = context.folder / name, context.folder / f"{name}.json"
    often = {"log_every_n_steps": min(5, steps)}
    config = config_file(context, model, steps, data, seen, precision=precision, **often)
    tenshot("fit", "--config", config, "--trainer.default_root_dir", folder)
    values: Values = json.loads(seen.read_text())
    assert values["steps"] == steps, f"{values['steps']} steps in place of {steps}"
    state = checkpoint(folder)["state_dict"]
    bad = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    assert not bad, f"weights that are not finite: {bad[:5]}"
    return folder, values | {"logged": logged(folder)}


def drawn(context: Context, run: Path, *argv: str | Path) -> Values:
    """Draw images; none may be of one colour."""
    count = 2 if context.dry else 8
    folder = context.folder / f"images_{len(list(context.folder.glob('images_*')))}"
    tenshot("predict", "--ckpt_path", run, "--images.count", str(count), "--images.dir", folder, *argv)
    images = sorted(folder.glob("*.png"))
    assert len(images) == count, f"{len(images)} images in place of {count}"
    ranges = [max(high - low for low, high in Image.open(path).getextrema()) for path in images]
    assert min(ranges) > 0, "an image of one colour"
    return {"images": count, "least_range": min(ranges)}


def measured(context: Context, run: Path) -> Values:
    """``tenshot test`` with random features: every value is finite."""
    few = 4 if context.dry else 16
    argv = [f"--evaluate.{name}={few}" for name in ("samples", "reference")]
    tenshot("test", "--ckpt_path", run, "--evaluate.features", "random", *argv, "--evaluate.paths", "2")
    [result] = (run / "evaluations").glob("*.json")
    return defined(json.loads(result.read_text())["values"])


def defined(values: Values) -> Values:
    """Measured values, of which those that so few images do not define are none.

    Raises:
        AssertionError: Hardly any is defined.
    """
    there = [value for value in values.values() if value is not None]
    assert len(there) > len(values) / 2, f"hardly a value is a number: {values}"
    assert all(math.isfinite(value) for value in there), values
    return values


def folders(context: Context) -> None:
    """Files of images: a few of them, a folder with validation, and a folder measured as a generator."""
    images, square = write_images(context, "images", 40, 36), write_images(context, "square", 32, 32)
    workers = 0 if context.dry else 2
    common = {"root": str(images), "image_size": 32, "batch_size": 4, "num_workers": workers}
    steps = 2 if context.dry else 6
    kinds: dict[str, Config] = {
        "FewShot": {"shots": 10},
        "ImageFolder": {"val_fraction": 0.25},
    }
    for kind, more in kinds.items():
        data = {"class_path": kind, "init_args": common | more}
        with context.check("methods", f"folder {kind}") as values:
            values.update(
                fit(context, kind, diffusion(context), steps, "32-true" if context.dry else "bf16-mixed", data)[1]
            )
    context.run("methods", "folder as a generator", lambda: generator(context, square))


def write_images(context: Context, name: str, height: int, width: int) -> Path:
    """A folder of 24 PNGs of noise."""
    folder = context.folder / name
    folder.mkdir()
    for number in range(24):
        random = torch.Generator().manual_seed(number)
        pixels = torch.randint(256, (height, width, 3), generator=random, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return folder


def generator(context: Context, images: Path) -> Values:
    """``tenshot test`` of a folder, and where its images were measured."""
    few = ["--evaluate.features", "random", "--evaluate.samples", "8", "--evaluate.reference", "8"]
    argv = ["test", "--model", "FolderGenerator", "--model.root", images, *few, "--data", "SyntheticFaces"]
    argv += ["--data.image_size", "32", "--trainer.accelerator", "cpu" if context.dry else "gpu"]
    argv += ["--trainer.devices", "1", "--trainer.default_root_dir", context.folder / "generator"]
    tenshot(*argv)
    [result] = (context.folder / "generator" / "evaluations").glob("*.json")
    return defined(json.loads(result.read_text())["values"])
