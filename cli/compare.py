"""``tenshot compare``: one page, one picture and one table of what several runs reached."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from tenshot.errors import InputError, say
from tenshot.reports import Run, brought_here, grouped, read_run, wandb_path, write_report

__all__ = ["compare"]

ABOUT = """Compare runs on one page: metrics with their spread over seeds, samples of the same numbers, nearest training
pictures, curves, cost, and the options in which the runs differ. Runs of one folder name but for the seed, and of one
configuration but for seeds and folders, are one method. Values not measured in the same way are kept apart."""


class Arguments(argparse.ArgumentParser):
    """A mistake ends in one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit with status 2."""
        say(f"{message}: see tenshot compare --help")
        sys.exit(2)


def compare(words: list[str]) -> None:
    """Run ``tenshot compare`` with the words after it.

    Raises:
        InputError: A folder is no run's, or the report cannot be written.
    """
    parser = Arguments(prog="tenshot compare", description=ABOUT, allow_abbrev=False)
    parser.add_argument(
        "runs", nargs="*", metavar="RUN",
        help="folders that tenshot fit or tenshot test wrote; or runs on W&B, wandb:ENTITY/PROJECT/ID or their address",
    )  # fmt: skip
    parser.add_argument(
        "--label", nargs="+", action="append", default=[], metavar=("NAME", "RUN"),
        help="call the runs that follow NAME and take them for one method; may be given again",
    )  # fmt: skip
    parser.add_argument("--output", default="comparison", help="folder to write to (default: comparison)")
    given = parser.parse_args(words)
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
    with TemporaryDirectory() as brought:

        def read(word: str) -> Run:
            path = wandb_path(word)
            return read_run(Path(word) if path is None else brought_here(path, Path(brought)))

        runs = [read(word) for word in given.runs]
        groups = grouped(runs, {name: [read(word) for word in words] for name, words in named.items()})
        written = write_report(groups, Path(given.output))
    for group in groups:
        print(f"{group.name}: {', '.join(group.label(run) for run in group.runs)}")
    for path in written:
        print(path)
