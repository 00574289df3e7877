"""What the base and the stages of a cascade draw for several ways of a search: drawn once, and kept."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from tenshot.callbacks.drawn_by import DrawnBy
from tenshot.callbacks.kept_stages import ASKED, KeptStages, StageFolder
from tenshot.distributed.first_rank import of_first_rank
from tenshot.lightning_modules import Cascade
from tenshot.run.code_version import code_version

__all__ = ["SharedStages"]

DRAWN = "drawn"
"""Folder of what is kept, which all searches in a run's folder share."""


class SharedStages:
    """Images of the base and of stages that more than one way of drawing begins with.

    Of those that one way uses only the last are needed, unless other ways go on from earlier ones.

    Args:
        folder: ``searches/`` of a run.
        measurements: Of all ways and seeds, with all that each depends on.
    """

    def __init__(self, folder: Path, measurements: Iterable[Mapping[str, Any]]) -> None:
        self.folder = folder / DRAWN
        self._users: Counter[str] = Counter()
        self._folders: dict[str, StageFolder] = {}
        for measurement in measurements:
            self._users.update(by.digest for by in _parts(measurement))

    def of(self, trainer: Trainer, measurement: Mapping[str, Any]) -> KeptStages:
        """Where a cascade that draws for this measurement keeps and finds images. To be called on all ranks.

        Raises:
            InputError: The folder cannot be written.
        """
        parts = _parts(measurement)
        users = [*(self._users[by.digest] for by in parts), 1]

        def worthwhile() -> list[int]:
            there = [(self.folder / by.digest).exists() for by in parts]
            return [number for number in range(len(parts)) if there[number] or users[number] > users[number + 1]]

        return KeptStages(
            {n: self._claimed(trainer, parts[n], measurement) for n in of_first_rank(trainer, worthwhile)}
        )

    def _claimed(self, trainer: Trainer, by: DrawnBy, measurement: Mapping[str, Any]) -> StageFolder:
        if by.digest not in self._folders:
            place, count = self.folder / by.digest, measurement["samples"]
            folder = StageFolder(place, by, "--trainer.default_root_dir", self.folder.parents[1])
            there = folder.claim(trainer, count)
            rank_zero_info(f"{place}: {len(there)} of {count} images that several ways begin with are there already")
            self._folders[by.digest] = folder
        return self._folders[by.digest]


def _parts(measurement: Mapping[str, Any]) -> list[DrawnBy]:
    """What the images of the base of a cascade, and of each stage but the last, depend on; of other methods nothing."""
    depends_on, parts = measurement["drawn_by"], list[DrawnBy]()
    told = {name: depends_on[name] for name in ASKED if name in depends_on}
    if depends_on["method"] != Cascade.__name__:
        return []
    for number in range(1 + max(int(name[7 : name.index("]")]) for name in depends_on if name.startswith("stages["))):
        whose = f"stages[{number - 1}]." if number else "base."
        told = told | {name: value for name, value in depends_on.items() if name.startswith(whose)}
        parts.append(DrawnBy(told, {"checkpoint": None, "code": code_version()}))
    return parts
