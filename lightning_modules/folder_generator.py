"""Images that lie in a folder, as a generator: so that the output of any program gets the same table."""

from collections.abc import Mapping
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from PIL import Image
from torch import Tensor

from tenshot.datamodules.pixels import from_pixels
from tenshot.datamodules.reading import list_images, read_image
from tenshot.errors import InputError

__all__ = ["FolderGenerator"]

MOST = 2**32  # samples of one seed, see tenshot.datamodules.Samples


class FolderGenerator(LightningModule):
    """Images that somebody has drawn already, for tenshot test: number i is the i-th file by name.

    Args:
        root: Folder of square images of one size; nothing is resized.
    """

    averaged: tuple[str, ...] = ()
    """Submodules that an EMA follows: there are none."""
    num_classes: int | None = None

    def __init__(self, root: str) -> None:
        super().__init__()
        self.files = list_images(root, "--model.root")
        self.size = max(_size(self.files[0]))
        self.root = root
        self.title = Path(root).name

    def sample(self, seeds: Tensor, condition: Mapping[str, Tensor] | None = None, preview: bool = False) -> Tensor:
        """The images whose numbers are the low 32 bits of the seeds.

        Returns:
            (N, 3, size, size) float32 in [-1, 1], on the device of the module, where metrics then work

        Raises:
            InputError: There are not so many, or one is of another size or cannot be read.
        """
        numbers = (seeds % MOST).tolist()
        if max(numbers) >= len(self.files):
            raise InputError(f"{self.root} holds {len(self.files)} images: set --evaluate.samples to at most that")
        for file in (self.files[number] for number in numbers):
            if _size(file) != (self.size, self.size):
                width, height = _size(file)
                raise InputError(
                    f"{file} is {width} x {height}, {self.files[0].name} {self.size} pixels wide: metrics compare "
                    "square images of one size"
                )
        pixels = torch.stack([read_image(self.files[number], self.size) for number in numbers])
        return from_pixels(pixels.to(self.device))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The images that a batch of seeds asks for."""
        return self.sample(batch["seed"])


def _size(file: Path) -> tuple[int, int]:
    try:
        with Image.open(file) as image:
            return image.size
    except OSError:
        raise InputError(f"{file} cannot be read as an image: replace it or take it out") from None
