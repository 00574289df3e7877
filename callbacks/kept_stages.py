"""Images of the base and the stages of a cascade, kept as they were drawn, so that later stages can be drawn again."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tenshot.callbacks.drawn_by import DrawnBy, drawn_by_cascade
from tenshot.callbacks.drawn_folder import DrawnFolder
from tenshot.datamodules.batches import CONDITION_IMAGE
from tenshot.datamodules.conditions import Conditions
from tenshot.distributed.first_rank import of_first_rank
from tenshot.errors import InputError
from tenshot.lightning_modules import Cascade

__all__ = ["ASKED", "KeptStages", "StageFolder", "keep_stages"]

MOST = 2**32  # samples of one seed, see tenshot.datamodules.Samples
ASKED = ("seed", "precision", "condition", f"{CONDITION_IMAGE}_of")
"""Of what samples depend on, what is common to base and stages."""


class StageFolder(DrawnFolder):
    """A folder of images as float32: 8 bits would change what the next stage is given (CDM, arXiv 2106.15282).

    Args:
        path: The folder, inside that which the option names.
        by: What draws.
        option: The command-line option that names another folder.
        named: The folder that it names.
        shown: Where files of conditions are drawn from, the numbers of all samples, with a hash of what each is of;
            none: they are numbered from 0.
    """

    def __init__(
        self, path: Path, by: DrawnBy, option: str, named: Path, shown: Mapping[int, str] | None = None
    ) -> None:
        super().__init__(path, by, option)
        self.named, self.shown = named, shown
        if shown is not None:
            self.foreign = "not drawn by this model and settings from the condition as it is now"

    def numbers(self, count: int) -> Sequence[int]:
        """Those of so many samples."""
        return super().numbers(count) if self.shown is None else list(self.shown)

    def mark(self, number: int) -> str:
        """What an image says of itself."""
        return super().mark(number) if self.shown is None else f"{super().mark(number)} {self.shown[number]}"

    def file(self, number: int) -> Path:
        """Where an image goes."""
        return self.path / f"{number:06d}.safetensors"

    def bears(self, file: Path, number: int) -> bool:
        """Whether a file is whole and bears the mark of an image."""
        try:
            with safe_open(file, "pt") as opened:
                return (opened.metadata() or {}).get("tenshot") == self.mark(number)
        except (SafetensorError, OSError):
            return False

    def read(self, number: int) -> Tensor | None:
        """An image (C, H, W), if it is there."""
        try:
            with safe_open(self.file(number), "pt") as opened:
                ours = (opened.metadata() or {}).get("tenshot") == self.mark(number)
                image: Tensor | None = opened.get_tensor("image") if ours else None
        except (SafetensorError, OSError):
            return None
        return image

    def write(self, number: int, image: Tensor) -> None:
        """Keep an image (C, H, W); the file appears whole or not at all.

        Raises:
            InputError: The folder cannot be written or the disk is full.
        """
        file, partial = self.file(number), self.path / f".{number:06d}.{os.getpid()}.partial"
        try:
            save_file({"image": image.float().cpu().contiguous()}, partial, metadata={"tenshot": self.mark(number)})
            partial.replace(file)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file}: could not be written ({error}): free space or choose another folder") from None


class KeptStages:
    """What generators of a cascade have drawn, in a folder of each.

    Args:
        folders: By the number of the generator, the base being 0. What others draw is not kept.
    """

    def __init__(self, folders: Mapping[int, StageFolder]) -> None:
        self.folders = folders

    def read(self, number: int, seeds: Tensor) -> Tensor | None:
        """The images (N, C, H, W) of a generator, the base being 0; none where not all of them are there."""
        images: list[Tensor] = []
        if number not in self.folders:
            return None
        for index in (seeds % MOST).tolist():
            image = self.folders[number].read(index)
            if image is None:
                return None
            images.append(image)
        return torch.stack(images)

    def write(self, number: int, seeds: Tensor, images: Tensor) -> None:
        """Keep images of a generator."""
        for index, image in () if number not in self.folders else zip((seeds % MOST).tolist(), images, strict=True):
            self.folders[number].write(index, image)


def keep_stages(trainer: Trainer, path: Path, by: DrawnBy, count: int, conditions: Conditions) -> None:
    """Let the cascade that the trainer is to draw with keep what its base and stages draw. To be called on all ranks.

    Args:
        trainer: With its module built.
        path: Of the folder.
        by: What draws the images of its last stage.
        count: How many images there are to be.
        conditions: Of these.

    Raises:
        InputError: The method is no cascade, or there are images of other checkpoints or options.
    """
    cascade = trainer.lightning_module
    if not isinstance(cascade, Cascade):
        name = type(cascade).__name__
        raise InputError(f"--images.keep_stages keeps what a cascade draws, which {name} is not: leave the option out")
    asked = {name: by.depends_on[name] for name in ASKED if name in by.depends_on}
    shown, folders, files = None, {}, conditions.files
    if files is not None and conditions.numbers is not None:
        of_each = [sha256 for sha256 in of_first_rank(trainer, files.sha256) for _ in range(conditions.each)]
        shown = dict(zip(conditions.numbers.tolist(), of_each, strict=True))
    for number in range(len(cascade.stages)):
        depends_on = asked | drawn_by_cascade(cascade, number + 1)
        place = path / (f"stage{number - 1}" if number else "base")
        folder = StageFolder(place, DrawnBy(depends_on, by.origin), "--images.keep_stages", path, shown)
        there = folder.claim(trainer, count)
        rank_zero_info(f"{place}: {len(there)} of {count} images are there already")
        folders[number] = folder
    cascade.kept = KeptStages(folders)
