"""``tenshot cas``: the classification accuracy score of a generator, by commands that it prints and runs."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tenshot.checkpoints.runs import checkpoint_file, holds_run, run_of
from tenshot.checkpoints.shipped import shipped_file
from tenshot.cli.adapt.commands import line_of, run
from tenshot.cli.compare import Arguments
from tenshot.cli.yaml_files import check_yaml
from tenshot.datamodules import SampleFolder
from tenshot.errors import InputError, check_range
from tenshot.lightning_modules import ClassificationAccuracyScore
from tenshot.reports import read_run
from tenshot.reports.curves import logged
from tenshot.run.text_file import write_whole

__all__ = ["cas"]

ABOUT = """The classification accuracy score (Ravuri & Vinyals, arXiv 1905.10887): a sample is drawn for every real
training image, of its class; a classifier is trained on the samples alone and tested on real validation images. All of
it is commands of tenshot that are printed and run. A run that was stopped goes on with the same command. Options that
are not listed go to tenshot predict, which draws, such as --model.guidance.scale 1."""

ARCHIVES = (".zip", ".tar")
OF_SAMPLES, OF_REAL = "on_samples", "on_real"
"""Folders of the classifiers."""


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Args:
        source: A run, a checkpoint or weights to draw from; or a folder or archive of samples.
        recipe: Of the classifier; its data are the real images.
        content: What the recipe holds.
        output: Where everything goes.
        seed: Of the samples and of the classifiers.
        real: Whether one is trained on the real images too.
        drawing: Options of ``tenshot predict``.
    """

    source: str
    recipe: Path
    content: dict[str, Any]
    output: Path
    seed: int
    real: bool
    drawing: list[str]

    @property
    def draws(self) -> bool:
        """Whether samples are drawn, rather than there."""
        path = Path(self.source)
        return not (path.suffix in ARCHIVES or (path.is_dir() and not holds_run(path)))

    @property
    def samples(self) -> str:
        """Where they are."""
        return str(self.output / "samples") if self.draws else self.source

    def files(self) -> dict[Path, dict[str, Any]]:
        """The configurations that the commands take, besides the recipe."""
        real = self.content["data"]
        data = {"root": str(Path(self.samples).resolve()), "real": _with_import_path(real)}
        of_samples = self.content | {"data": {"class_path": SampleFolder.__name__, "init_args": data}}
        files = {self.output / f"{OF_SAMPLES}.yaml": of_samples}
        if self.draws:
            files[self.output / "predict.yaml"] = _drawing_from(self.source) | {"data": real}
        return files

    def commands(self) -> Iterator[list[str]]:
        """The words after ``tenshot`` of each, in order."""
        seed = str(self.seed)
        if self.draws:
            words = ["predict", "--config", str(self.output / "predict.yaml"), "--ckpt_path", self.source]
            words += ["--images.dir", self.samples, "--images.labels", "data", "--images.seed", seed]
            yield [*words, *self.drawing]
        recipes = {OF_SAMPLES: self.output / f"{OF_SAMPLES}.yaml"} | ({OF_REAL: self.recipe} if self.real else {})
        for name, recipe in recipes.items():
            words = ["fit", "--config", str(recipe), "--trainer.default_root_dir", str(self.output / name)]
            yield [*words, "--seed_everything", seed, "--ckpt_path", "last"]


def cas(argv: list[str]) -> None:
    """Run ``tenshot cas`` with the arguments after it.

    Raises:
        InputError: The recipe is of something else, or the folder is.
    """
    parser = Arguments(prog="tenshot cas", description=ABOUT, allow_abbrev=False)
    parser.add_argument(
        "source", metavar="SOURCE",
        help="what to draw from, a run or weights of a class-conditional method; or samples that are there: a folder "
        "or an archive with class folders or a dataset.json",
    )  # fmt: skip
    parser.add_argument(
        "--config", required=True, help="recipe of the classifier, such as configs/cas/faces32.yaml; its data are real"
    )
    parser.add_argument("--output", help="folder for everything (default: runs/cas/NAME of the source)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples and the classifier (default: 0)")
    parser.add_argument(
        "--real", action="store_true", help="train another one on the real images: the number to compare with"
    )
    parser.add_argument("--dry_run", action="store_true", help="print the commands, run none")
    given, drawing = parser.parse_known_args(argv)
    check_range("--seed", given.seed, 0, 2**31 - 1)
    content = _recipe(Path(given.config))
    output = Path(given.output) if given.output else Path("runs/cas") / _name(given.source)
    plan = Plan(given.source, Path(given.config), content, output, given.seed, given.real, drawing)
    if drawing and not plan.draws:
        raise InputError(f"{drawing[0]} is no option of tenshot cas, and {given.source} needs no drawing: leave it out")
    files = plan.files()
    if given.dry_run:
        print(*map(line_of, plan.commands()), sep="\n")
        return
    _write(files, output)
    for words in plan.commands():
        print(line_of(words), flush=True)
        run(words, "cas")
    _tell(plan)


def _recipe(path: Path) -> dict[str, Any]:
    """What a recipe of the score holds.

    Raises:
        InputError: It cannot be read, or is of something else.
    """
    if not path.is_file():
        raise InputError(f"--config {path}: no such file")
    check_yaml([str(path)])
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    model = content.get("model")
    method = str(model.get("class_path")) if isinstance(model, dict) else str(model)
    if method.rsplit(".", 1)[-1] != ClassificationAccuracyScore.__name__ or not isinstance(content.get("data"), dict):
        raise InputError(
            f"--config {path}: no recipe of {ClassificationAccuracyScore.__name__} with its data: take one of "
            "configs/cas"
        )
    return content


def _name(source: str) -> str:
    """Of the folder, by default: that of the run or the file, the folder above it included."""
    file = shipped_file(source)
    place = Path(source) if file is None else file
    return "-".join(place.resolve().with_suffix("").parts[-2:])


def _with_import_path(data: dict[str, Any]) -> dict[str, Any]:
    """A class of ours by its import path: short names are for --model and --data alone."""
    name = str(data["class_path"])
    return data | {"class_path": name if "." in name else f"tenshot.datamodules.{name}"}


def _drawing_from(source: str) -> dict[str, Any]:
    """The configuration of the run that the weights are of; nothing for other weights."""
    folder = run_of(checkpoint_file(source))
    if folder is None or not (folder / "config.yaml").is_file():
        return {}
    config: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return config | {"trainer": config.get("trainer", {}) | {"default_root_dir": str(folder)}}


def _write(files: dict[Path, dict[str, Any]], output: Path) -> None:
    """Write the configurations, once.

    Raises:
        InputError: The folder is of something else, or cannot be written.
    """
    for path, content in files.items():
        text = yaml.safe_dump(content, sort_keys=False)
        if path.exists() and path.read_text() != text:
            raise InputError(f"{output} holds the score of something else ({path.name}): choose another --output")
        write_whole(path, text, "choose another --output")


def _tell(plan: Plan) -> None:
    """Print the accuracies of the last validation, and write ``cas.json``."""
    result: dict[str, Any] = {"source": plan.source, "recipe": str(plan.recipe), "seed": plan.seed}
    print(f"\n{'trained on':<12}{'top-1':>8}{'top-5':>8}")
    for name, title in ((OF_SAMPLES, "samples"), (OF_REAL, "real images")):
        if name == OF_REAL and not plan.real:
            continue
        lines = logged(read_run(plan.output / name))
        scores = {k: lines.get(f"cas/{k}", [(0, math.nan)])[-1] for k in ("top1", "top5")}
        result[name] = {k: value for k, (_, value) in scores.items()} | {"step": int(scores["top1"][0]) + 1}
        print(f"{title:<12}" + "".join(f"{100 * value:7.2f}%" for _, value in scores.values()))
    file = plan.output / "cas.json"
    write_whole(file, json.dumps(result, indent=1) + "\n", "choose another --output")
    print(file)
