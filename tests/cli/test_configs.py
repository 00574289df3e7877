"""Of recipes with the same options one does a step at debug size, and each other method is built: the rest are these.

A recipe that gives an option, or names a class, as none before it does, is one of those that train.
"""

import json
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import glide_files
import numpy as np
import pytest
import tiny
import tiny_piti
import torch
import yaml
from debug_size import as_config, debug_size
from PIL import Image
from tiny_stages import saved, stage

from tenshot.callbacks import StepCheckpoint
from tenshot.checkpoints.shipped import PREFIX
from tenshot.lightning_modules import DDPM

CONFIGS = Path(__file__).parents[2] / "configs"
FRAGMENTS = [path for folder in ("trainer", "logger", "debug") for path in sorted((CONFIGS / folder).glob("*.yaml"))]
DRAWN = sorted((CONFIGS / "cascade").glob("*.yaml"))  # of which nothing is trained
RECIPES = [path for path in sorted(CONFIGS.glob("**/*.yaml")) if path not in (*FRAGMENTS, *DRAWN)]

PUBLIC = (
    "checkpoints/ffhq.pt", "checkpoints/source_ffhq.pt", "checkpoints/64_256_upsampler.pt", "checkpoints/base.pt",
    "checkpoints/upsample.pt",
)  # fmt: skip


SIZED = ("init_from", "low_res_size", "piti")
"""What debug size replaces."""


PLACES = ("init_from", "root", "val_root", "default_root_dir", "domain")
"""What names files or images."""


def loaded(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def options(value: Any, name: str = "") -> set[tuple[str, str]]:
    """All options below, with the word or the type of each value: how large a number is does not matter."""
    if isinstance(value, dict):
        return {option for key, inner in value.items() for option in options(inner, f"{name}.{key}")}
    if isinstance(value, list):
        return {(name, "list")} | {option for inner in value for option in options(inner, f"{name}[]")}
    word = isinstance(value, str) and name.rpartition(".")[2] not in PLACES
    return {(name, value if word else type(value).__name__)}


def built_alike(path: Path) -> str:
    """What decides how a recipe's method is built at debug size; not with which images, for how long."""
    recipe = loaded(path)
    method = {name: value for name, value in recipe["model"]["init_args"].items() if name not in SIZED}
    for network, small in (
        ("unet", tiny.UNET),
        ("classifier", tiny.UNET),
        ("predictor", tiny.UNET),
        ("stylegan2", asdict(tiny.STYLEGAN2)),
    ):
        if network in method:  # of its size nothing is left
            method[network] = {name: value for name, value in method[network].items() if name not in small}
    return json.dumps([recipe["model"]["class_path"], method, recipe["data"]["class_path"]], sort_keys=True)


def with_options_of_their_own(paths: list[Path]) -> list[Path]:
    """Those that together have all options of all, for each method and kind of data."""
    seen: defaultdict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    found = []
    for path in sorted(paths, key=lambda path: -len(options(loaded(path)))):
        recipe = loaded(path)
        before = seen[recipe["model"]["class_path"], recipe["data"]["class_path"]]
        if not options(recipe) <= before:
            before |= options(recipe)
            found.append(path)
    return sorted(found)


TRAINED = with_options_of_their_own(RECIPES)
BUILT = list({built_alike(path): path for path in [*RECIPES, *TRAINED]}.values())
BEGUN = [path for path in BUILT if path not in TRAINED]


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


@pytest.fixture(scope="session")
def conditions(tmp_path_factory: pytest.TempPathFactory, shots: Path) -> Path:
    """A mask of two classes for each shot; as a sketch, a few lines."""
    root = tmp_path_factory.mktemp("conditions")
    for number, path in enumerate(sorted(shots.iterdir())):
        pixels = np.zeros((16, 16), np.uint8)
        pixels[number] = 150
        Image.fromarray(pixels).save(root / path.name)
    return root


@pytest.fixture(scope="session")
def places(shots: Path, classes: Path, source: Path, stylegan2: Path, conditions: Path) -> tuple[Path, ...]:
    """What recipes need."""
    return shots, classes, source, stylegan2, conditions


def piti_from(recipe: dict[str, Any], source: Path) -> list[str]:
    """A PITI for its later stages, and a GLIDE for the first."""
    method = recipe["model"]["init_args"]
    if "init_from" not in method:
        return []
    if method["init_from"].startswith(PREFIX):
        return ["--model.init_from", str(source)]
    if method["init_from"].startswith("runs/"):
        channels = 1 if recipe["data"]["init_args"].get("condition") == "sketch" else 3
        module = tiny_piti.piti(piti=replace(tiny_piti.TINY, condition_channels=channels), condition_drop=0.2)
        (source.parent / "piti").mkdir(exist_ok=True)
        return ["--model.init_from", saved(source.parent / "piti", module)]
    enlarges = glide_files.UPSAMPLER if recipe["model"]["class_path"] == "PITIUpsampler" else {}
    glide = glide_files.glide(channel_mult=(1,), attention_resolutions=(), **enlarges)
    return ["--model.init_from", tiny_piti.public_file(source.parent / "base.pt", glide)]


def started_from(
    recipe: dict[str, Any], shots: Path, classes: Path, source: Path, stylegan2: Path, conditions: Path
) -> list[str]:
    """The options that give a recipe the data and the weights that it needs."""
    method, data = recipe["model"]["init_args"], recipe["data"]["init_args"]
    words: list[str] = []
    if recipe["model"]["class_path"] in ("StyleGAN2", "CDC", "MixDL"):
        words += [] if "stylegan2" in method else ["--model.init_from", str(stylegan2)]
    elif "unet" not in method and recipe["model"]["class_path"] in ("DDPM", "DDPMPA"):
        words += ["--model.init_from", str(source)]
    elif "unet" not in method and recipe["model"]["class_path"] == "SuperResolution":
        classes_of_it = 2 if data.get("labels") else None
        small = stage(unet=tiny.unet_config(num_classes=classes_of_it))
        words += ["--model.init_from", saved(source.parent, small)]
    elif recipe["model"]["class_path"].startswith("PITI"):
        words += piti_from(recipe, source)
    for name in {"conditions", "val_conditions"} & data.keys():
        words += [f"--data.{name}", str(conditions)]
    if "root" in data:
        words += ["--data.root", str(classes if data.get("labels") else shots)]
        noisy = recipe["model"]["class_path"] == "NoisyClassifier"
        words += ["--model.classifier.out_channels", "2"] if noisy else []
    if "val_root" in data:
        words += ["--data.val_root", str(classes if data.get("labels") else shots)]
    return words


def test_there_are_recipes_and_fragments():
    assert len(RECIPES) > len(TRAINED) > 20
    assert {built_alike(path) for path in [*TRAINED, *BEGUN]} == {built_alike(path) for path in RECIPES}
    assert len(FRAGMENTS) > 2


@pytest.mark.parametrize("path", BEGUN, ids=ids(BEGUN))
def test_a_recipe_begins_a_run(tenshot: tiny.Run, tmp_path: Path, places: tuple[Path, ...], path: Path):
    """Its options exist, and method, data, callbacks and Trainer are made of them: only then an end is missed."""
    recipe = yaml.safe_load(path.read_text())
    words = as_config([*debug_size(recipe, tmp_path / "run"), *started_from(recipe, *places)], tmp_path / "small.yaml")
    words += ["--model.lr_scheduler", "null"] if "lr_scheduler" in recipe["model"]["init_args"] else []  # it needs one
    outcome = tenshot("fit", "--config", path, *words, "--trainer.max_steps", "-1")
    assert outcome.complaint == "the run has no end: set --trainer.max_steps"


@pytest.mark.parametrize("path", TRAINED, ids=ids(TRAINED))
def test_a_recipe_trains_and_draws(tenshot: tiny.Run, tmp_path: Path, places: tuple[Path, ...], path: Path):
    recipe = yaml.safe_load(path.read_text())
    run = tmp_path / "run"
    words = as_config([*debug_size(recipe, run), *started_from(recipe, *places)], tmp_path / "small.yaml")
    outcome = tenshot("fit", "--config", path, *words)

    assert outcome.status == 0, outcome.err
    saved = torch.load(run / "checkpoints" / "step=00000001.ckpt", weights_only=True)
    assert saved["global_step"] == 1
    written = yaml.safe_load((run / "config.yaml").read_text())
    for group in ("ema", "grid"):  # what was not overridden went through
        for name, value in recipe.get(group, {}).items():
            assert written[group][name] == value
    before, after = (config["model"]["init_args"].get("sampler", {}) for config in (recipe, written))
    assert after.get("method") == before.get("method")


@pytest.mark.parametrize("path", [*RECIPES, *DRAWN], ids=ids([*RECIPES, *DRAWN]))
def test_a_recipe_says_what_it_is(path: Path):
    """What it repeats, the result, what it costs, the command."""
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    recipe = yaml.safe_load(path.read_text())
    for beginning in ("# Result:", "# Cost:", "# Run"):
        assert any(line.startswith(beginning) for line in head), f"{path.name} has no line '{beginning}'"
    assert f"configs/{path.relative_to(CONFIGS)}" in path.read_text()
    assert recipe["trainer"]["default_root_dir"] == f"runs/{path.relative_to(CONFIGS).with_suffix('')}"


@pytest.mark.parametrize("path", RECIPES, ids=ids(RECIPES))
def test_a_recipe_that_starts_from_a_public_file_says_where_that_is(path: Path):
    recipe = yaml.safe_load(path.read_text())
    public = str(recipe["model"]["init_args"].get("init_from")) in PUBLIC
    sources = [line for line in path.read_text().splitlines() if line.startswith("# Source: ")]
    assert len(sources) == public or path.stem == "finetune256"
    assert all("github.com/" in line for line in sources)


OWN = ("faces16", "faces32", "faces64", "avatars64", "few_shot64", "pairs64", "classifier", "resnet50")
PUBLISHED = [path for path in RECIPES if not any(name in path.name for name in OWN)]


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


def test_every_step_of_overfitting_sees_the_same_images(
    tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[torch.Tensor] = []
    step = DDPM.training_step

    def watched(self: DDPM, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        seen.append(batch["image"])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(DDPM, "training_step", watched)
    config = tiny.config_file(tmp_path, {"trainer": {"max_steps": 3}})
    words = ("--config", config, "--config", CONFIGS / "debug" / "overfit.yaml")
    outcome = tenshot("fit", *words, "--trainer.default_root_dir", tmp_path / "run")
    assert outcome.status == 0, outcome.err
    assert len(seen) == 3
    assert all(torch.equal(images, seen[0]) for images in seen)
