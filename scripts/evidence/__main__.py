"""Repeat docs/evidence.md: train what is missing, measure it, draw, and write the tables into the page.

Each run is a ``tenshot`` command that is printed; runs lie in runs/evidence (or TENSHOT_EVIDENCE). Stopped anywhere,
the same command goes on; two commands side by side share the work.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from tenshot.errors import InputError, did_you_mean, say

from . import cascades, pairs, pairs_runs
from .cascade_draw import cascade_grids, s_curves
from .draw import grids, trade_off
from .page import PAGE, filled
from .pairs_draw import pair_grids
from .plan import FULL, TOY, Run, hours, runs
from .results import FILE, gathered, read, with_new, write
from .sets import SETS
from .work import Workers, held

EVERY = [*SETS, cascades.NAME, pairs.NAME]


def main() -> int:
    """The exit status: 0 where all that was asked for is finished."""
    parser = argparse.ArgumentParser(prog="python -m scripts.evidence", description=__doc__)
    parser.add_argument("--set", choices=EVERY, nargs="+", default=EVERY, help="of images")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread at a time (default 2)")
    parser.add_argument("--only", metavar="METHOD/SEED/TARGET", help="these runs alone; * stands for any")
    parser.add_argument("--dry", action="store_true", help="print the commands that are left and the hours they take")
    parser.add_argument("--finished", action="store_true", help="run nothing more, publish what is finished")
    parser.add_argument("--toy", action="store_true", help="a few steps of everything, published nowhere")
    args = parser.parse_args()
    root = Path(os.environ.get("TENSHOT_EVIDENCE", "runs/evidence"))
    docs = Path("docs")
    if args.toy:
        docs, root = copied(docs, root / "toy" / "docs"), root / "toy"
    scale = TOY if args.toy else FULL
    planned = runs(root, [name for name in args.set if name in SETS], scale)
    planned += cascades.runs(root, scale) if cascades.NAME in args.set else []
    planned += pairs_runs.runs(root, scale) if pairs.NAME in args.set else []
    wanted = chosen(planned, args.only)
    if args.dry:
        for run in wanted:
            for task in run.tasks():
                if not task.finished(run.folder):
                    print(f"{task.line}  # {task.seconds / 60:.0f} min")
        left = hours(wanted)
        print(f"{left:.1f} hours of one core, {left / args.jobs:.1f} with {args.jobs} at a time")
        return 0
    done = args.finished or adapt(wanted, args.jobs)
    left = sum(not task.finished(run.folder) for run in planned for task in run.tasks())
    if left and not (args.finished or args.toy):
        print(f"{left} commands are left, {docs / PAGE} stays as it is (--finished publishes what there is)")
    else:
        publish(planned, docs)
    return 0 if done else 1


def copied(docs: Path, to: Path) -> Path:
    """A page to try on."""
    to.mkdir(parents=True, exist_ok=True)
    shutil.copy(docs / PAGE, to)
    return to


def chosen(planned: list[Run], only: str | None) -> list[Run]:
    """The runs that METHOD/SEED/TARGET means, and the sources that they need.

    Raises:
        InputError: There is no such run.
    """
    if only is None:
        return planned
    found = [run for run in planned if all(a in ("*", b) for a, b in zip(only.split("/"), parts(run), strict=False))]
    if only.count("/") != 2 or not found:
        raise InputError(f"--only {only}: no such run{did_you_mean(only, [run.title for run in planned])}: see --dry")
    needed: set[Path] = set()
    while more := {run.needs.parents[2] for run in found if run.needs} - needed:
        needed |= more
        found = [run for run in planned if run in found or run.folder in needed]
    return found


def parts(run: Run) -> tuple[str, str, str]:
    """Its name, seed and target."""
    return run.name, str(run.seed), run.target


def adapt(wanted: list[Run], jobs: int) -> bool:
    """Do what is left; whether all is finished."""
    for of in dict.fromkeys(run.of for run in wanted):
        of.check()
    for run in wanted:
        if run.target in run.of.targets:
            with held(run.root / "prepare.lock", wait=True):
                run.of.prepare(run.root, run.target, run.seed)
    left = hours(wanted)
    print(f"{left:.1f} hours of one core are left, {left / jobs:.1f} with {jobs} at a time", flush=True)
    outcome = Workers(wanted, jobs).work()
    for title in outcome.elsewhere:
        print(f"{title}: another process is at it, not finished here")
    for title, why in outcome.failed.items():
        print(f"{title}: {why}", file=sys.stderr)
    return not (outcome.elsewhere or outcome.failed)


def publish(planned: list[Run], docs: Path) -> None:
    """Write rows, pictures and tables, of what is finished; the page says what is not."""
    new = gathered(planned[0].root, planned)
    if not new:
        print(f"nothing is finished yet, {docs / PAGE} stays as it is")
        return
    rows = with_new(read(docs / FILE), new)
    write(rows, docs / FILE)
    images = docs / "images"
    images.mkdir(exist_ok=True)
    grids(planned, images)
    for name in dict.fromkeys(row["set"] for row in new):
        own = [row for row in rows if row["set"] == name]
        if name == cascades.NAME:
            s_curves(own, images)
            cascade_grids(planned, images)
        elif name == pairs.NAME:
            pair_grids(planned, images)
        else:
            trade_off(own, name, images)
    page = docs / PAGE
    page.write_text(filled(page.read_text(), rows))
    print(f"{len(new)} measurements are in {docs / FILE}, {page} and {images}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        say(error)
        sys.exit(1)
