"""Every recipe that is shipped parses, and trains for a step at debug size."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml

from tenshot.callbacks import StepCheckpoint

CONFIGS = Path(__file__).parents[2] / "configs"
FRAGMENTS = [path for folder in ("trainer", "logger") for path in sorted((CONFIGS / folder).glob("*.yaml"))]
RECIPES = [path for path in sorted(CONFIGS.glob("**/*.yaml")) if path not in FRAGMENTS]


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(CONFIGS)) for path in paths]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for recipes that start from some."""
    return tiny.weights_file(tmp_path_factory.mktemp("source") / "source.safetensors", tiny.randomised(tiny.ddpm()))


@pytest.fixture(scope="session")
def stylegan2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, for recipes that start from a StyleGAN2."""
    folder = tmp_path_factory.mktemp("stylegan2")
    tiny.trainer(folder, 1, StepCheckpoint()).fit(tiny.gan(), tiny.faces(image_size=32))
    return folder


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory, shots: Path) -> Path:
    """The shots in two folders, their classes."""
    root = tmp_path_factory.mktemp("classes")
    for number, path in enumerate(sorted(shots.iterdir())):
        (root / str(number % 2)).mkdir(exist_ok=True)
        (root / str(number % 2) / path.name).symlink_to(path)
    return root


def debug_size(
    recipe: dict[str, Any], shots: Path, classes: Path, source: Path, stylegan2: Path, folder: Path
) -> list[str | Path]:
    """The options that make a recipe small. What else it says stays as it is."""
    method, data = recipe["model"]["init_args"], recipe["data"]["init_args"]
    words: list[str | Path] = ["--trainer.max_steps", "1", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    words += ["--trainer.precision", "32-true", "--trainer.default_root_dir", folder, "--images.count", "1"]
    words += ["--trainer.enable_progress_bar", "false", "--trainer.limit_val_batches", "1"]
    batch = 2 if recipe["model"]["class_path"] == "MixDL" else 3  # others compare three; MixDL judges twice as many
    words += ["--grid.count", "1", "--grid.columns", "1", "--data.batch_size", str(batch)]
    adversarial = recipe["model"]["class_path"] in ("StyleGAN2", "CDC", "MixDL")
    words += ["--data.image_size", "32" if adversarial else "16"]
    if "stylegan2" in method:
        for name, value in asdict(tiny.STYLEGAN2).items():
            words += [f"--model.stylegan2.{name}", str(value)]
    elif adversarial:
        words += ["--model.init_from", stylegan2]
    for part in {"unet", "classifier"} & method.keys():
        unet = {name: value for name, value in tiny.UNET.items() if name != "head_channels"}
        if method[part].get("head_channels"):
            unet["head_channels"] = 32
        for name, value in unet.items():
            words += [f"--model.{part}.{name}", str(list(value) if isinstance(value, tuple) else value)]
    if "unet" not in method and recipe["model"]["class_path"] in ("DDPM", "DDPMPA"):
        words += ["--model.init_from", source]
    for scheduler in [method.get("lr_scheduler", {})]:
        if "total_steps" in scheduler.get("init_args", {}):
            words += ["--model.lr_scheduler.init_args.total_steps", "5"]
    if method.get("bits_per_dim") is not None:
        words += ["--model.bits_per_dim", "2"]
    if "sampler" in method:
        words += ["--model.sampler.steps", "3", "--model.preview_sampler.steps", "2"]
    if "root" in data:
        words += ["--data.root", classes if data.get("labels") else shots]
        words += ["--model.classifier.out_channels", "2"] if data.get("labels") else []
    for name, most in (("shots", 5), ("num_val", 2), ("num_images", 10)):
        if isinstance(data.get(name), int):
            words += [f"--data.{name}", str(min(data[name], most))]
    if "num_workers" in data:
        words += ["--data.num_workers", "0"]
    return words


def test_there_are_recipes_and_fragments():
    assert len(RECIPES) > 5
    assert len(FRAGMENTS) > 2


@pytest.mark.parametrize("path", RECIPES, ids=ids(RECIPES))
def test_a_recipe_trains_and_draws(
    tenshot: tiny.Run, tmp_path: Path, shots: Path, classes: Path, source: Path, stylegan2: Path, path: Path
):
    recipe = yaml.safe_load(path.read_text())
    run = tmp_path / "run"
    outcome = tenshot("fit", "--config", path, *debug_size(recipe, shots, classes, source, stylegan2, run))

    assert outcome.status == 0, outcome.err
    saved = torch.load(run / "checkpoints" / "step=00000001.ckpt", weights_only=True)
    assert saved["global_step"] == 1
    written = yaml.safe_load((run / "config.yaml").read_text())
    for group in ("ema", "grid"):  # what was not overridden went through
        for name, value in recipe.get(group, {}).items():
            assert written[group][name] == value
    before, after = (config["model"]["init_args"].get("sampler", {}) for config in (recipe, written))
    assert after.get("method") == before.get("method")


@pytest.mark.parametrize("path", RECIPES, ids=ids(RECIPES))
def test_a_recipe_says_what_it_is(path: Path):
    """What it repeats, the result, what it costs, the command."""
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    recipe = yaml.safe_load(path.read_text())
    for beginning in ("# Result:", "# Cost:", "# Run"):
        assert any(line.startswith(beginning) for line in head), f"{path.name} has no line '{beginning}'"
    assert f"configs/{path.relative_to(CONFIGS)}" in path.read_text()
    assert recipe["trainer"]["default_root_dir"] == f"runs/{path.relative_to(CONFIGS).with_suffix('')}"


PUBLISHED = [path for path in RECIPES if "faces32" not in path.name and "classifier" not in path.name]


@pytest.mark.parametrize("path", PUBLISHED, ids=ids(PUBLISHED))
def test_a_recipe_of_published_values_averages_and_drops_out_as_published(path: Path):
    recipe = yaml.safe_load(path.read_text())
    assert recipe["ema"]["warmup"] is False
    if recipe["model"]["class_path"] in ("DDPM", "DDPMPA"):
        method = recipe["model"]["init_args"]
        assert method.get("unet", method)["dropout"] == (0.3 if path.stem == "iddpm32" else 0.1)


@pytest.mark.parametrize("path", FRAGMENTS, ids=ids(FRAGMENTS))
def test_a_fragment_goes_on_top_of_a_recipe(tenshot: tiny.Run, tmp_path: Path, path: Path):
    fragment = yaml.safe_load(path.read_text())
    outcome = tenshot("fit", "--config", tiny.config_file(tmp_path), "--config", path, "--print_config")
    assert outcome.status == 0, outcome.err
    merged = yaml.safe_load(outcome.out)["trainer"]
    for name, value in fragment["trainer"].items():
        found = merged[name]
        assert found == value or found["class_path"].endswith(value["class_path"].rsplit(".")[-1])
    assert merged["max_steps"] == 2
