"""``tenshot adapt``: from a folder of about ten images to samples, by commands that it prints and runs."""

import shlex
from pathlib import Path

import torch

from tenshot.checkpoints.runs import checkpoint_step
from tenshot.checkpoints.shipped import PREFIX
from tenshot.cli.adapt.choice import WAYS, Way, nearest, recipe_for, way_and_sources
from tenshot.cli.adapt.commands import BEST, CRITERION, Plan, run
from tenshot.cli.adapt.folder import Folder, folder_for
from tenshot.cli.adapt.images import Shots, findings, read_shots
from tenshot.cli.compare import Arguments
from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import InputError, check_range

__all__ = ["adapt"]

ABOUT = """Adapt a generator to the images of a folder: look at the images and say what is found, choose source and
recipe, train while watching for copies, draw samples from the best step, measure them, and make a page. All of it is
commands of tenshot that are printed and run. A run that was stopped goes on with the same command."""

NEEDS_GPU = 128
"""Side of images in pixels beyond which a CPU takes days."""


def adapt(argv: list[str]) -> None:
    """Run ``tenshot adapt`` with the arguments after it.

    Raises:
        InputError: An image cannot be used, there is no source to start from, or the folder is of something else.
    """
    parser = Arguments(prog="tenshot adapt", description=ABOUT, allow_abbrev=False)
    parser.add_argument("folder", metavar="FOLDER", help="of about ten images, those in folders below it included")
    parser.add_argument(
        "--source", metavar="SOURCE",
        help="what to start from: tenshot:NAME, a checkpoint, or the folder of a run (default: of the sources that "
        "come with tenshot the one whose samples are most like the images)",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=WAYS,
        help=f"{'; '.join(f'{way.name}: {way.about}' for way in WAYS.values())} (default: the first for the source)",
    )  # fmt: skip
    parser.add_argument("--output", help="folder of the run (default: runs/adapt/FOLDER-METHOD)")
    parser.add_argument("--steps", type=int, help="of training (default: the recipe's)")
    parser.add_argument("--samples", type=int, default=64, help="how many images to draw (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="of training (default: 0)")
    parser.add_argument(
        "--patience", type=int,
        help="end training after so many evaluations in a row that were no better (default: do all steps)",
    )  # fmt: skip
    parser.add_argument("--dry_run", action="store_true", help="look at the images, print the commands, run none")
    given = parser.parse_args(argv)
    for option, value, least in (
        ("steps", given.steps, 1),
        ("patience", given.patience, 1),
        ("samples", given.samples, 1),
    ):
        if value is not None:
            check_range(f"--{option}", value, least)
    check_range("--seed", given.seed, 0, 2**31 - 1)

    way, sources = way_and_sources(given.method, given.source)
    shots = read_shots(given.folder, max(source.size for source in sources))
    source, distances = nearest(sources, from_pixels(shots.pixels))
    if source.size != shots.pixels.shape[-1]:
        shots = read_shots(given.folder, source.size)
    recipe = recipe_for(way, source.size)
    steps = given.steps or recipe.content["trainer"]["max_steps"]
    of = {
        "images": dict(zip(shots.names, shots.digests, strict=True)), "source": _told(source.name),
        "method": way.name, "steps": steps, "seed": given.seed, "patience": given.patience,
    }  # fmt: skip
    folder = folder_for(given.output, f"{Path(given.folder).resolve().name}-{way.name}", of)
    plan = Plan(
        source, recipe, given.folder, folder.path, steps, given.samples, given.seed, given.patience
    )  # fmt: skip

    _print(findings(shots))
    _print(_choices(plan, way, given.source is not None, distances))
    if given.dry_run:
        print(*map(_line, plan.commands()), sep="\n")
        return
    if source.size > NEEDS_GPU and not torch.cuda.is_available():
        raise InputError(
            f"--source {source.name} makes images of {source.size} px, which takes days without a GPU: take a source "
            "of 64 px, or run the commands that --dry_run prints on a machine with a GPU"
        )
    _do(plan, folder)
    _print(_results(plan, shots))


def _do(plan: Plan, folder: Folder) -> None:
    """Run the commands that have not ended well yet."""
    folder.claim()
    for words in plan.commands():
        if words in folder.done:
            print(f"{_line(words)}   # done")
            continue
        print(_line(words), flush=True)
        run(words)
        folder.note(words)


def _choices(plan: Plan, way: Way, told: bool, distances: dict[str, float]) -> list[tuple[str, str]]:
    """What was chosen, and why."""
    source, recipe = plan.source, plan.recipe
    why = "as you say" if told else f"the {source.kind.words} that comes with tenshot"
    if distances:
        far = ", ".join(f"{name} {distance:.2f}" for name, distance in distances.items())
        why = f"its samples are most like the images, by the cosine distance of features ({far})"
    other_size = (
        "" if recipe.size == source.size else f", whose numbers are for {recipe.size} px: --steps may need a change"
    )
    end = (
        f"ends after {plan.patience} that are no better"
        if plan.patience
        else "the best one counts, --patience 4 ends early"
    )
    return [
        ("source", f"{source.name}, {source.size} px: {why}"),
        ("method", f"{way.name}: {way.about}"),
        ("recipe", f"{recipe.path.parent.name}/{recipe.path.name}{other_size}"),
        ("steps", f"{plan.steps}, samples are looked at every {plan.every}: {end}"),
        ("output", str(plan.output)),
    ]


def _results(plan: Plan, shots: Shots) -> list[tuple[str, str]]:
    """Where everything is."""
    best = plan.output / BEST
    step = checkpoint_step(best)
    more = ["predict", "--ckpt_path", str(best), "--images.count", "1000"]
    last = f"; the last one was the best, so more may help: --steps {2 * plan.steps}" if step == plan.steps else ""
    return [
        ("best", f"step {step} of {plan.steps}, by {CRITERION}: {best}{last}"),
        ("grid", f"{plan.output / f'samples/step={step:08d}.png'}: the images, and samples of that step below them"),
        ("samples", f"{plan.output / 'images'}: {plan.samples}; for more: {_line(more)[2:]}"),
        ("page", f"{plan.output / 'comparison/index.html'}: measures, curves, samples beside the nearest images"),
    ]


def _told(source: str) -> str:
    return source if source.startswith(PREFIX) else str(Path(source).resolve())


def _line(words: list[str]) -> str:
    return f"$ {shlex.join(['tenshot', *words])}"


def _print(lines: list[tuple[str, str]]) -> None:
    for heading, text in lines:
        print(f"  {heading:<9}{text}")
    print()
