"""Which runs are repetitions of one method."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenshot.errors import InputError
from tenshot.reports.run import Run

__all__ = ["Group", "config_differences", "grouped", "method_differences"]

SEED = re.compile(r"[-_ .]?seed[-_= .]?\d+", re.IGNORECASE)
"""What a folder's name says of its seed."""
AGAIN = re.compile(r"(?<=.)-\d+$")
"""What a folder is called where the name was taken."""

MOST_PARTS = 8
"""Of a path in a name."""

NO_PART_OF_THE_METHOD = re.compile(
    r"(.*\.)?(seed|seed_everything|ckpt_path|config|default_root_dir|logger|num_workers|log_every_n_steps|"
    r"enable_progress_bar|enable_model_summary|enable_checkpointing|enable_autolog_hparams)$"
    r"|(grid|strip|images|checkpoint|evaluate|trainer\.logger)\..*"
)
"""Options that change where and how a run is watched, or its randomness, but not what is done."""


@dataclass(frozen=True)
class Group:
    """Repetitions of one method.

    Args:
        name: What the report calls it.
        runs: By seed.
        named: Whether the user put them together.
    """

    name: str
    runs: list[Run]
    named: bool = False

    def label(self, run: Run) -> str:
        """What tells a run from the others of the group."""
        seeds = [other.seed for other in self.runs]
        return f"seed {run.seed}" if run.seed is not None and seeds.count(run.seed) == 1 else run.folder.name

    def title(self, run: Run) -> str:
        """The method and the run."""
        return self.name if self.label(run) == self.name else f"{self.name}, {self.label(run)}"

    @property
    def repeated_seeds(self) -> list[int]:
        """Seeds that more than one run has: such runs are no independent repetitions."""
        seeds = [run.seed for run in self.runs if run.seed is not None]
        return sorted({seed for seed in seeds if seeds.count(seed) > 1})


def grouped(runs: Sequence[Run], named: Mapping[str, Sequence[Run]] | None = None) -> list[Group]:
    """Put repetitions together.

    Runs of one folder name (without its seed; where nothing else is left, that of the folder above) whose
    configurations are equal are one method. Seeds, folders and what is only drawn, saved or measured do not count.

    Args:
        runs: To be grouped.
        named: Groups that the user made, which stand first.

    Raises:
        InputError: A run is given twice.
    """
    every = [*runs, *(run for members in (named or {}).values() for run in members)]
    seen: set[Path] = set()
    for run in every:
        place = run.folder.resolve()
        if place in seen:
            raise InputError(f"{run.folder}: given twice: drop one, a run counts once")
        seen.add(place)

    alike: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        alike[_title(run.folder, 1), _fingerprint(run)].append(run)
    names = _names(list(alike.values()), set(named or ()))
    found = [Group(name, _by_seed(members), named=True) for name, members in (named or {}).items()]
    return found + [Group(name, _by_seed(members)) for name, members in zip(names, alike.values(), strict=True)]


def config_differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Options that runs do not agree in: name -> the value of each run, ``None`` where it has none."""
    described = [run.config for run in runs]
    names = list(dict.fromkeys(name for config in described for name in config))
    rows = {name: [config.get(name) for config in described] for name in names}
    return {name: row for name, row in rows.items() if any(value != row[0] for value in row)}


def method_differences(runs: Sequence[Run]) -> list[str]:
    """Options that runs do not agree in and that change what is done: none for repetitions."""
    differing = config_differences(runs)
    plain = {name: [SEED.sub("", json.dumps(value, default=str)) for value in row] for name, row in differing.items()}
    return [name for name, row in plain.items() if len(set(row)) > 1 and not NO_PART_OF_THE_METHOD.fullmatch(name)]


def _by_seed(runs: Sequence[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (run.seed is None, run.seed or 0))


def _title(folder: Path, parts: int) -> str:
    """The last ``parts`` parts of a path, without seeds."""
    names = [SEED.sub("", part) for part in folder.resolve().parts[1:]]
    names = [AGAIN.sub("", name) for name in names if name]
    return "/".join(names[-parts:])


def _fingerprint(run: Run) -> str:
    """Equal for runs that do the same."""
    told = {name: value for name, value in run.config.items() if not NO_PART_OF_THE_METHOD.fullmatch(name)}
    return SEED.sub("", json.dumps([run.method, told], sort_keys=True, default=str))


def _names(groups: Sequence[Sequence[Run]], taken: set[str]) -> list[str]:
    """The shortest ends of paths that tell groups apart; numbered where none does."""
    folders = [group[0].folder for group in groups]
    short = [_title(folder, 1) for folder in folders]
    unique: list[str] = []
    for folder, title in zip(folders, short, strict=True):
        alike = [other for other, name in zip(folders, short, strict=True) if name == title]
        told = [len({_title(other, parts) for other in alike}) for parts in range(1, MOST_PARTS + 1)]
        name = candidate = _title(folder, 1 + told.index(max(told)))
        number = 1
        while candidate in taken or candidate in unique:
            number += 1
            candidate = f"{name} ({number})"
        unique.append(candidate)
    return unique
