"""A folder of samples that are named after the conditions that they are drawn from."""

import hashlib
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from tenshot.callbacks.drawn_by import DrawnBy
from tenshot.callbacks.drawn_folder import DrawnFolder
from tenshot.datamodules.condition_files import ConditionFiles
from tenshot.datamodules.low_res_folder import LowResFolder
from tenshot.distributed.first_rank import of_first_rank

__all__ = ["NamedFolder", "mark_of"]


def mark_of(digest: str, name: str, number: int, sha256: str) -> str:
    """The mark of a sample.

    Args:
        digest: Of what draws.
        name: Of its condition.
        number: Among those of that.
        sha256: Of the condition, as ``ConditionFiles`` tells it.
    """
    return f"{digest} {hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()} {number} {sha256}"


class NamedFolder(DrawnFolder):
    """Samples ``NAME.png``, or of several from each condition ``NAME_0.png``, ``NAME_1.png``, …

    The mark of each also tells what the network was shown, so that one that was drawn from another condition of that
    name is never taken for this one's.

    Args:
        path: The folder.
        by: What draws.
        option: The command-line option that names another folder.
        files: The conditions.
        each: Samples drawn from each, numbered one after the other.
        low_res: The small image that each sample is enlarged from, if it is; the mark tells it too.
    """

    foreign = "not drawn by this model and settings from the condition of its name as it is now"

    def __init__(
        self,
        path: Path,
        by: DrawnBy,
        option: str,
        files: ConditionFiles,
        each: int,
        low_res: LowResFolder | None = None,
    ) -> None:
        super().__init__(path, by, option)
        self.files, self.each, self.low_res = files, each, low_res
        self._sha256: list[str] = []
        self._of_small: list[str] = []
        if low_res is not None:
            self.foreign = "not drawn by this model and settings from condition and small image of its name as they are"

    @property
    def history(self) -> dict[str, Any]:
        """Also the folders that the conditions are in."""
        return super().history | {"conditions": self.files.told}

    def file(self, number: int) -> Path:
        """Where a sample goes; folders below the root of the conditions are folders below this one."""
        return self.path / self.files.sample(number, self.each)

    def mark(self, number: int) -> str:
        """What the PNG of a sample says of itself."""
        place = number // self.each
        mark = mark_of(self.by.digest, self.files.names[place], number % self.each, self._sha256[place])
        return f"{mark} {self._of_small[number]}" if self.low_res else mark

    def claim(self, trainer: Trainer, count: int) -> set[int]:
        """As of any folder; before, the first rank reads all conditions.

        Raises:
            ImageError: One cannot be used; names the file.
            InputError: The folder holds images of something else, or cannot be written.
        """
        self._sha256 = of_first_rank(trainer, self.files.sha256)
        if self.low_res is not None:
            self._of_small = of_first_rank(trainer, self.low_res.digests)
        return super().claim(trainer, count)
