"""Write drawn images as PNG files, numbered or named after what they are drawn from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from tenshot.callbacks.drawn_by import drawn_by
from tenshot.callbacks.drawn_folder import DrawnFolder
from tenshot.callbacks.ema import averaged
from tenshot.callbacks.kept_stages import keep_stages
from tenshot.callbacks.named_folder import NamedFolder
from tenshot.datamodules import ImageDataModule, Samples
from tenshot.datamodules.condition_files import condition_files
from tenshot.datamodules.conditions import Conditions, Labels
from tenshot.datamodules.pixels import to_pixels
from tenshot.datamodules.samples import SeedBatches
from tenshot.errors import InputError
from tenshot.lightning_modules.cascade_conditions import condition_config
from tenshot.lightning_modules.data_checks import check_condition_images

__all__ = ["ImageWriter", "MissingSamples", "to_uint8", "write_png"]

COUNT = 64  # images, where none is asked for


def to_uint8(images: Tensor) -> Tensor:
    """float (N, C, H, W) in [-1, 1] -> uint8 (N, H, W, C), rounded as the metrics round, so that files lose nothing."""
    return rearrange(to_pixels(images), "n c h w -> n h w c").cpu()


def write_png(pixels: Tensor, path: Path, mark: str | None = None) -> None:
    """Write uint8 (H, W, 3) or (H, W, 1); the file appears whole or not at all.

    Args:
        pixels: Of the image.
        path: Of the file.
        mark: What the file is to say of itself, as the text ``tenshot`` in the PNG.

    Raises:
        InputError: The folder cannot be written or the disk is full.
    """
    partial, text = path.with_name(f".{path.name}.partial"), PngInfo()
    if mark is not None:
        text.add_text("tenshot", mark)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.squeeze(-1).numpy()).save(partial, format="PNG", pnginfo=text)
        partial.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: could not be written ({error.strerror or error}): free space or choose another folder"
        ) from None


class ImageWriter(Callback):
    """Write what ``tenshot predict`` draws as ``000000.png``, ``000001.png``, …; a second run adds what is missing.

    What is drawn from a folder of conditions is named after these: ``NAME.png``, or ``NAME_0.png``, ``NAME_1.png``, …

    ``drawn_by.json`` beside the images says what drew them; a folder that holds images of another model, seed or
    sampler is refused.

    Args:
        dir: Folder to write to; by default ``images`` in the run's folder.
        count: Number of images; image i depends on (seed, i) alone. None: 64, or all of low_res, or as many as there
            are training images, where labels is ``data``.
        batch_size: Images drawn together on each device.
        seed: Seed of the set.
        label: Draw this class only, of a model that has classes.
        labels: ``uniform``: picture i is of class i mod K, each of the K classes equally often; ``random``: each
            picture's class is drawn by its own seed, as it is where neither option is given; ``data``: picture i is of
            the class of training image i of the data. Where classes are chosen, dataset.json beside the images tells
            them, as --data ImageFolder and SampleFolder read it.
        low_res: For a super-resolution stage, a folder of small images to enlarge: image i is of the i-th by name; with
            conditions, that of a condition has its name.
        keep_stages: For a cascade, a folder in which to keep the images of the base and of all stages but the last, as
            float32; what is there is not drawn again, and refused if it is of another checkpoint or other options.
        conditions: For PITI, a folder or archive of masks, sketches, depth or normals to draw from, read as in
            training; for geometry two, normals and depth.
        photos: For PITI on sketches, a folder of photographs, from whose edges is drawn.
        per_condition: Images of each of these. Image j of a condition depends on (seed, its name, j) and what it shows.
    """

    def __init__(
        self,
        dir: str | None = None,
        count: int | None = None,
        batch_size: int = 32,
        seed: int = 0,
        label: int | None = None,
        labels: Labels | None = None,
        low_res: str | None = None,
        keep_stages: str | None = None,
        conditions: str | list[str] | None = None,
        photos: str | None = None,
        per_condition: int = 1,
    ) -> None:
        self.keep_stages = keep_stages
        self.dir, self.count, self.batch_size, self.seed = dir, COUNT if count is None else count, batch_size, seed
        for name, value, least in (
            ("count", self.count, 1),
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("per_condition", per_condition, 1),
        ):
            if value < least:
                raise InputError(f"images.{name} is {value}: choose at least {least}")
        self._files = {"--images.conditions": conditions, "--images.photos": photos}
        self._check_together(count, per_condition)
        self.conditions = Conditions("images", label, labels, low_res, each=per_condition)
        self._all = count is None
        self._step = 0
        self._folder: DrawnFolder

    def _check_together(self, count: int | None, per_condition: int) -> None:
        given = [option for option, roots in self._files.items() if roots is not None]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} are both given: leave one out")
        if given and count is not None:
            raise InputError(
                f"--images.count {count}: {given[0]} tells how many images there are, --images.per_condition of each: "
                "leave it out"
            )
        if not given and per_condition > 1:
            raise InputError(
                f"--images.per_condition {per_condition} is of a folder of conditions: give that with "
                "--images.conditions"
            )

    def take_conditions(self, data: object) -> None:
        """Know the data that the method was trained on, and the conditions that are to be drawn from.

        Raises:
            InputError: Samples are to have the classes of data that have none, or the files of conditions are not what
                the data say.
        """
        conditions = self.conditions.with_classes_of(data)
        files = [
            condition_files(data, roots, option, option == "--images.photos")
            for option, roots in self._files.items()
            if roots is not None
        ]
        data = data if isinstance(data, ImageDataModule) else None
        self.conditions = replace(conditions, data=data, files=files[0] if files else None)

    def folder(self, trainer: Trainer) -> Path:
        """Where the images go."""
        return Path(self.dir) if self.dir else Path(trainer.default_root_dir) / "images"

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note its step, which the trainer does not know when it draws."""
        self._step = checkpoint["global_step"]

    def claim(self, trainer: Trainer) -> set[int]:
        """Numbers of the images that are there already; on all ranks, once the weights are loaded.

        Raises:
            InputError: The folder holds images of something else, or the method has no such conditions.
        """
        if not hasattr(trainer.lightning_module, "sample"):  # it will say so itself
            return set()
        condition_of = self.conditions.of(trainer.lightning_module)  # before anything is written
        enlarged = self.conditions.count(trainer.lightning_module)
        if enlarged is not None:
            if self.count > enlarged and not self._all:
                rank_zero_info(f"--images.count is {self.count}, but there are images to draw from for {enlarged}")
            self.count = enlarged if self._all else min(self.count, enlarged)
        with averaged(trainer, trainer.lightning_module):
            by = drawn_by(trainer, trainer.lightning_module, self.seed, self._step, self.conditions)
        if self.keep_stages is not None:
            keep_stages(trainer, Path(self.keep_stages), by, self.count, self.conditions)
        path, files = self.folder(trainer), self.conditions.files
        if files is None:
            self._folder = DrawnFolder(path, by, "--images.dir")
        else:
            config = condition_config(trainer.lightning_module)
            assert config is not None
            check_condition_images(self.conditions.data, config)
            small = self.conditions.small(trainer.lightning_module)
            self._folder = NamedFolder(path, by, "--images.dir", files, self.conditions.each, small)
        there = self._folder.claim(trainer, self.count)
        if condition_of is not None and self.conditions.recorded is not None and trainer.is_global_zero:
            self._folder.tell_classes(condition_of(torch.arange(self.count))["label"].tolist())
        of = "" if files is None else f" from the {files}"
        rank_zero_info(f"{path}: drawing {self.count} images{of}, {len(there)} of them are there already")
        return there

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a batch."""
        for index, pixels in zip(outputs["index"].tolist(), to_uint8(outputs["image"]), strict=True):
            write_png(pixels, self._folder.file(index), self._folder.mark(index))


class MissingSamples(Samples):
    """The samples that a folder lacks; which, is found once the weights are loaded that are to draw them.

    Args:
        writer: Which writes them.
        data: Whose classes they may have, or whose condition images they are drawn from.

    Raises:
        InputError: As ``ImageWriter.take_conditions``.
    """

    def __init__(self, writer: ImageWriter, data: object = None) -> None:
        writer.take_conditions(data)
        super().__init__(writer.count, writer.batch_size, writer.seed, conditions=writer.conditions)
        self.writer = writer

    def predict_dataloader(self) -> SeedBatches:
        """This rank's share of them."""
        assert self.trainer is not None
        self.skip = frozenset(self.writer.claim(self.trainer))
        self.count = self.writer.count
        return super().predict_dataloader()
