"""SampleFolder: samples of a generator to train a classifier on, beside the real images that it is tested on."""

from io import BytesIO

from PIL import Image

from tenshot.datamodules.base import ImageDataModule
from tenshot.datamodules.batches import Source
from tenshot.datamodules.image_folder import ImageFolder
from tenshot.errors import InputError

__all__ = ["SampleFolder"]


class SampleFolder(ImageFolder):
    """Samples by class in the place of real training images, and the validation images of the real data.

    Classes are those of the real data: by their numbers, where a dataset.json tells the classes of samples, as
    ``tenshot predict`` writes it; by their names, where the samples lie in class folders.

    Args:
        root: Folder or archives of the samples.
        real: The real images, with labels.
        batch_size: Images a step on each device; none: that of the real data.
        num_workers: Processes that decode.
        flip: Mirror each training image with probability one half.
        seed: Decides the order and mirroring in training.
    """

    def __init__(
        self,
        root: str,
        real: ImageDataModule,
        batch_size: int | None = None,
        num_workers: int = 2,
        flip: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            root, real.image_size, real.batch_size if batch_size is None else batch_size, labels=True,
            num_workers=num_workers, flip=flip, seed=seed, max_unusable=0,
        )  # fmt: skip
        self.real = real

    @property
    def class_names(self) -> list[str]:
        """As the samples name the classes, in the order of the real data's numbers."""
        assert self.real.num_classes is not None
        names: list[str] = getattr(self.real, "class_names", [])
        return names if names and not self.index.labels_from else [str(k) for k in range(self.real.num_classes)]

    def prepare_data(self) -> None:
        """List the images, where that was not done before."""
        super().prepare_data()
        self.real.prepare_data()

    def sources(self) -> tuple[Source, Source | None]:
        """The samples, and the real validation images.

        Raises:
            InputError: The real data have no labels; or the samples have none, other classes, or another size.
        """
        if self.real.num_classes is None:
            raise InputError("the real data have no labels, by which samples are drawn: set labels: true for them")
        index, names = self.index, self.class_names
        if not index.classes or index.labels_problem:
            raise InputError(
                f"{self.root} does not tell the classes of its samples: put them into class folders, or draw them with "
                "--images.labels data, which writes a dataset.json"
            )
        strange = sorted(set(index.classes) - set(names))
        if strange:
            raise InputError(
                f"{self.root} holds samples of class {strange[0]!r}, which the real data lack ({names[0]} … "
                f"{names[-1]}): draw samples of their {len(names)} classes"
            )
        numbers = set(index.entries["label"].tolist())
        drawn = {name for number, name in enumerate(index.classes) if number in numbers}
        real = self.real.train_classes()
        wanted = names if real is None else [names[number] for number in real.unique().tolist()]
        missing = [name for name in wanted if name not in drawn]
        if missing:
            raise InputError(
                f"{self.root} holds no sample of class {missing[0]!r} of the real data: draw as many of each class as "
                "there are real images, with --images.labels data"
            )
        with Image.open(BytesIO(index.read(0))) as first:
            if first.size != (self.image_size, self.image_size):
                raise InputError(
                    f"{index.title(0)} has {first.size[0]} x {first.size[1]} px, the real data {self.image_size}: "
                    "compare images of one size"
                )
        samples, _ = super().sources()
        return samples, self.real.val_source
