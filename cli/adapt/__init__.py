"""``tenshot adapt``: from a folder of about ten images to samples, by commands that it prints and runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tenshot.checkpoints.shipped import PREFIX
from tenshot.cli.adapt.choice import NEEDS_GPU, WAYS, chosen, recipe_for, way_and_sources
from tenshot.cli.adapt.commands import Plan, line_of, run
from tenshot.cli.adapt.folder import Folder, folder_for
from tenshot.cli.adapt.images import findings, read_shots
from tenshot.cli.adapt.summary import choices, results
from tenshot.cli.compare import Arguments
from tenshot.datamodules.pixels import from_pixels
from tenshot.errors import InputError, check_range

__all__ = ["adapt"]

ABOUT = """Adapt a generator to the images of a folder: look at the images and say what is found, choose source and
recipe, train while watching for copies, draw samples from the best step, measure them, and make a page. All of it is
commands of tenshot that are printed and run. A run that was stopped goes on with the same command."""

TELLS = 0.4
"""Nearness of the source's samples below which nearness can tell when an adaptation has arrived. Drawn faces are at
0.16 for sunglasses and below 0.05 for babies, sketches and two styles of avatars; at 0.88 for ten photographs of
different things, which are farther from each other than from anything else."""


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
        help="end training after so many evaluations worse than the best one since it (default: do all steps)",
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
    with _one_thread():
        choice = chosen(sources, from_pixels(shots.pixels))
        source = choice.source
        if source.size != shots.pixels.shape[-1]:
            shots = read_shots(given.folder, source.size)
        found = findings(shots)
    recipe = recipe_for(way, source.size)
    tells = choice.nearness is None or choice.nearness < TELLS
    steps = given.steps or recipe.content["trainer"]["max_steps"]
    of = {
        "images": dict(zip(shots.names, shots.digests, strict=True)), "source": _told(source.name),
        "method": way.name, "steps": steps, "seed": given.seed, "patience": given.patience,
    }  # fmt: skip
    folder = folder_for(given.output, f"{Path(given.folder).resolve().name}-{way.name}", of)
    plan = Plan(
        source, recipe, given.folder, folder.path, steps, given.samples, given.seed, given.patience, tells)  # fmt: skip

    _print(found)
    _print(choices(plan, way, choice, given.source is not None))
    if given.dry_run:
        print(*map(line_of, plan.commands()), sep="\n")
        return
    if source.size > NEEDS_GPU and not torch.cuda.is_available():
        raise InputError(
            f"--source {source.name} makes images of {source.size} px, which takes days without a GPU: take a source "
            "of 64 px, or run the commands that --dry_run prints on a machine with a GPU"
        )
    _do(plan, folder)
    _print(results(plan))


@contextmanager
def _one_thread() -> Iterator[None]:
    """The same choice with any number of cores, and no threads that wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _do(plan: Plan, folder: Folder) -> None:
    """Run the commands that have not ended well yet."""
    folder.claim()
    for words in plan.commands():
        if words in folder.done:
            print(f"{line_of(words)}   # done")
            continue
        print(line_of(words), flush=True)
        run(words)
        folder.note(words)


def _told(source: str) -> str:
    return source if source.startswith(PREFIX) else str(Path(source).resolve())


def _print(lines: list[tuple[str, str]]) -> None:
    for heading, text in lines:
        print(f"  {heading:<9}{text}")
    print()
