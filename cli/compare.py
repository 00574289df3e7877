"""``tenshot compare``: one page, one image and one table of what several runs reached."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from tenshot.errors import InputError, say
from tenshot.reports import grouped, read_run, write_report

__all__ = ["compare"]

ABOUT = """Compare runs on one page: metrics with their spread over seeds, samples of the same numbers, nearest training
images, curves, cost, and the options in which the runs differ. Runs of one folder name but for the seed, and of one
configuration but for seeds and folders, are one method. Values not measured in the same way are kept apart."""


class Arguments(argparse.ArgumentParser):
    """A mistake ends in one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit with status 2."""
        say(f"{message}: see {self.prog} --help")
        sys.exit(2)


def compare(argv: list[str]) -> None:
    """Run ``tenshot compare`` with the arguments after it.

    Raises:
        InputError: A folder is no run's, or the report cannot be written.
    """
    parser = Arguments(prog="tenshot compare", description=ABOUT, allow_abbrev=False)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders that tenshot fit or tenshot test wrote")
    parser.add_argument(
        "--label", nargs="+", action="append", default=[], metavar=("NAME", "RUN"),
        help="call the runs that follow NAME and take them for one method; may be given again",
    )  # fmt: skip
    parser.add_argument("--output", default="comparison", help="folder to write to (default: comparison)")
    given = parser.parse_args(argv)
    named: dict[str, list[str]] = {}
    for name, *folders in given.label:
        if name in named or not folders:
            fault = (
                "is given twice: put all its runs behind one" if name in named else "has no runs: name some behind it"
            )
            raise InputError(f"--label {name} {fault}")
        named[name] = folders
    if not given.runs and not named:
        raise InputError("tenshot compare needs runs: give the folders that tenshot fit or tenshot test wrote")
    runs = [read_run(Path(folder)) for folder in given.runs]
    groups = grouped(runs, {name: [read_run(Path(folder)) for folder in folders] for name, folders in named.items()})
    written = write_report(groups, Path(given.output))
    for group in groups:
        print(f"{group.name}: {', '.join(group.label(run) for run in group.runs)}")
    for path in written:
        print(path)
