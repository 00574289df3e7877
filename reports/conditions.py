"""What the samples of runs were drawn from, and the true images beside that, made again from their configurations."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tenshot.callbacks.drawn_by import DrawnBy
from tenshot.callbacks.drawn_folder import bears
from tenshot.callbacks.named_folder import mark_of
from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.datamodules.condition_files import ConditionFiles, condition_files, sha256_of
from tenshot.datamodules.conditions import BY_NAME, told_of
from tenshot.datamodules.pixels import as_colours
from tenshot.errors import InputError
from tenshot.reports.groups import Group
from tenshot.reports.images import SHOWN_SIDE, ImageRow, Pixels, common_numbers, shrunk
from tenshot.reports.run import Key, Run
from tenshot.reports.shots import NotAvailable, data_of

__all__ = ["Panel", "conditions_of", "panel"]


@dataclass(frozen=True)
class Panel:
    """What stands above and below the samples of the numbers that all runs have.

    Args:
        conditions: Each different set of conditions, one a column.
        truths: Each different set of true images.
        absent: Of each run whose conditions are not to be had its title, and why.
    """

    conditions: list[ImageRow] = field(default_factory=list)
    truths: list[ImageRow] = field(default_factory=list)
    absent: list[tuple[str, str]] = field(default_factory=list)


def panel(groups: Sequence[Group]) -> Panel:
    """The conditions and true images of all runs whose samples were drawn from condition images."""
    keys, absent, conditions, truths = common_numbers(groups), [], _Sets("conditions"), _Sets("true images")
    drawn = [(group, run) for group in groups for run in group.runs if run.drawn_from and run.images]
    for group, run in drawn if keys else []:
        try:
            above, below = conditions_of(run, keys)
        except NotAvailable as reason:
            absent.append((group.title(run), str(reason)))
        else:
            conditions.add(above, group.name)
            truths.add(below, group.name)
    return Panel(conditions.rows, truths.rows, absent)


class _Sets:
    """Different sets of images, and the methods that each is of."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._found: dict[bytes, tuple[Pixels, list[str]]] = {}

    def add(self, images: Pixels | None, method: str) -> None:
        if images is not None:
            methods = self._found.setdefault(images.tobytes(), (images, []))[1]
            methods += [] if method in methods else [method]

    @property
    def rows(self) -> list[ImageRow]:
        sets = self._found.values()
        titles = [self.title if len(sets) == 1 else f"{self.title} of {', '.join(methods)}" for _, methods in sets]
        return [ImageRow(title, shrunk(images, SHOWN_SIDE)) for title, (images, _) in zip(titles, sets, strict=True)]


def conditions_of(run: Run, keys: Sequence[Key]) -> tuple[Pixels, Pixels | None]:
    """The conditions that images of a run were drawn from, and the true images, where the data have them.

    Returns:
        (n, S, S, 3), and (n, H, W, 3) or None

    Raises:
        NotAvailable: Configuration and disk do not give them any more, or others.
    """
    try:
        if run.drawn_from == BY_NAME:
            return _pixels(as_colours(_of_files(run, [str(key) for key in keys]))), None
        train, val = data_of(run).sources()
        source = val or train
        if run.drawn_from != told_of(CONDITION_IMAGE, source)[f"{CONDITION_IMAGE}_of"]:
            raise NotAvailable("its images were drawn from other conditions than its configuration gives now")
        batch = source.read([int(key) % len(source) for key in keys])
    except InputError as error:
        raise NotAvailable(str(error)) from None
    return _pixels(as_colours(batch[CONDITION_IMAGE])), _pixels(batch["image"])


def _of_files(run: Run, names: Sequence[str]) -> Tensor:
    """The conditions of images that are named after them, as the images themselves testify."""
    data, digest = data_of(run), DrawnBy(run.drawn_by["depends_on"], {}).digest
    folders = [
        condition_files(data, one["root"], "--images.conditions", one["photographs"])
        for one in run.drawn_by["conditions"]
    ]
    return torch.stack([_of_file(folders, digest, name, run.images[name]) for name in names])


def _of_file(folders: Sequence[ConditionFiles], digest: str, name: str, image: Path) -> Tensor:
    stem, _, number = name.rpartition("_")
    for files in folders:
        for of, which in [(name, 0), *([(stem, int(number))] if number.isdecimal() else [])]:
            if of in files.names:
                condition = files.read([files.names.index(of)])[0]
                if bears(image, mark_of(digest, of, which, sha256_of(condition)), longer=True):
                    return condition
    raise NotAvailable(f"the file that {image.name} was drawn from is gone, or is read otherwise now")


def _pixels(images: Tensor) -> Pixels:
    return np.asarray(images.permute(0, 2, 3, 1).numpy(), dtype=np.uint8)
