"""The two sets of images: the faces that Tenshot draws, and avatars that others have drawn."""

import shutil
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tenshot.callbacks.image_writer import write_png
from tenshot.checkpoints.shipped import shipped_file
from tenshot.datamodules import SyntheticFaces
from tenshot.datamodules.choice import first_by_name
from tenshot.errors import InputError

SIZE, SHOTS = 64, 10
TRUE = 200  # true images that are measured as if they were samples
FAR = 100_000  # number of a true face that neither training nor a reference reaches


class ImageSet(ABC):
    """A source domain and its targets. What is made of its images lies in the folder of the evidence."""

    name: str
    targets: tuple[str, ...]
    sources: ClassVar[dict[str, str | None]]
    """What adaptations start from, by kind of network; None: trained here."""
    judged = False
    """Whether the attribute network reads the samples too."""

    @abstractmethod
    def shots(self, root: Path, target: str, seed: int) -> list[str]:
        """Options of the data that choose ten images."""

    @abstractmethod
    def truth(self, root: Path, target: str, seed: int) -> list[str]:
        """The same, with the images that samples are compared with."""

    @abstractmethod
    def true_images(self, root: Path, target: str, seed: int) -> list[str]:
        """Options that measure true images as if they were samples."""

    @abstractmethod
    def source_data(self) -> list[str]:
        """Options of the data that a source is trained on."""

    @abstractmethod
    def references(self, seed: int) -> int:
        """How many images samples are compared with."""

    @abstractmethod
    def prepare(self, root: Path, target: str, seed: int) -> None:
        """Write the files that these options name, as far as they are not there.

        Raises:
            InputError: There is nothing to make them of.
        """

    def check(self) -> None:
        """See that all is there that a run needs.

        Raises:
            InputError: It is not; says what makes it.
        """
        for source in self.sources.values():
            if source is not None:
                try:
                    shipped_file(source)
                except InputError as error:
                    raise InputError(f"{error}; make sources trains them") from None

    def folder(self, root: Path, target: str, seed: int) -> Path:
        """Where its images of a seed lie."""
        return root / self.name / "data" / target / f"seed{seed}"


class Faces(ImageSet):
    """SyntheticFaces: its true distribution can be drawn from without end."""

    name = "faces"
    targets = ("sunglasses", "babies")
    judged = True
    sources: ClassVar = {"ddpm": "tenshot:faces64", "stylegan2": "tenshot:faces64_stylegan2"}

    def shots(self, root: Path, target: str, seed: int) -> list[str]:
        """Ten of 10,000 heads of the seed, none of them in the source."""
        argv = ["--data", "SyntheticFaces", "--data.domain", target, "--data.shots", str(SHOTS)]
        return [*argv, "--data.num_val", "0", "--data.seed", str(seed)]

    def truth(self, root: Path, target: str, seed: int) -> list[str]:
        """A thousand heads more."""
        return [*self.shots(root, target, seed), "--evaluate.reference", str(self.references(seed))]

    def true_images(self, root: Path, target: str, seed: int) -> list[str]:
        """Others of the same seed."""
        folder = str(self.folder(root, target, seed))
        size = ["--data.image_size", str(SIZE)]
        return ["--model", "FolderGenerator", "--model.root", folder, *self.truth(root, target, seed), *size]

    def source_data(self) -> list[str]:
        """The faces that none of the targets has."""
        return ["--data", "SyntheticFaces", "--data.domain", "faces"]

    def references(self, seed: int) -> int:
        """As many as asked for."""
        return 1000

    def prepare(self, root: Path, target: str, seed: int) -> None:
        """Draw the true images."""
        folder = self.folder(root, target, seed)
        drawn = SyntheticFaces(domain=target, seed=seed, num_val=0, image_size=SIZE).reference(TRUE, start=FAR)
        if not (folder / f"{TRUE - 1:06d}.png").exists():
            for number in range(TRUE):
                write_png(drawn.read([number])["image"][0].permute(1, 2, 0), folder / f"{number:06d}.png")


class Avatars(ImageSet):
    """Avataaars, adapted to Open Peeps and to Lorelei: 1500 images each, of which ten are the shots."""

    name = "avatars"
    targets = ("openpeeps", "lorelei")
    sources: ClassVar = {"ddpm": "tenshot:avatars64", "stylegan2": None}
    archives = Path("data")

    def shots(self, root: Path, target: str, seed: int) -> list[str]:
        """Those that FewShot takes of all by this seed."""
        folder = self.folder(root, target, seed)
        return ["--data", "FewShot", "--data.root", str(folder / "shots"), "--data.seed", str(seed)]

    def truth(self, root: Path, target: str, seed: int) -> list[str]:
        """All others."""
        return [*self.shots(root, target, seed), "--data.val_root", str(self.folder(root, target, seed) / "others")]

    def true_images(self, root: Path, target: str, seed: int) -> list[str]:
        """Some of the others, compared with the rest of them."""
        others = self.folder(root, target, seed) / "others"
        argv = ["--model", "FolderGenerator", "--model.root", str(others / "measured")]
        argv += [*self.shots(root, target, seed), "--data.val_root", str(others / "rest")]
        return [*argv, "--data.image_size", str(SIZE)]

    def source_data(self) -> list[str]:
        """All Avataaars."""
        argv = ["--data", "ImageFolder", "--data.root", str(self.archives / "avataaars64.zip")]
        return [*argv, "--data.num_workers", "0", "--data.seed", "0"]

    def references(self, seed: int) -> int:
        """All but the shots."""
        return 1490

    def check(self) -> None:
        """The sources, and the images."""
        super().check()
        for name in ("avataaars", *self.targets):
            archive = self.archives / f"{name}64.zip"
            if not archive.is_file():
                raise InputError(f"{archive}: not there: make avatars draws it")

    def prepare(self, root: Path, target: str, seed: int) -> None:
        """Unpack them into shots, images to be measured and the rest; whole or not at all."""
        folder = self.folder(root, target, seed)
        if folder.exists():
            return
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        with zipfile.ZipFile(self.archives / f"{target}64.zip") as archive:
            entries = sorted(name for name in archive.namelist() if name.endswith(".png"))
            names = [Path(entry).name for entry in entries]  # as in a folder of them
            if len(names) < SHOTS + 2 * TRUE:
                raise InputError(f"{archive.filename}: holds {len(names)} images, too few: draw it anew, make avatars")
            shots = set(first_by_name(names, seed, SHOTS).tolist())
            others = [row for row in range(len(names)) if row not in shots]
            measured = {others[at] for at in first_by_name([names[row] for row in others], seed, TRUE).tolist()}
            for row, (entry, name) in enumerate(zip(entries, names, strict=True)):
                part = "shots" if row in shots else "others/measured" if row in measured else "others/rest"
                file = partial / part / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(entry))
        partial.rename(folder)


SETS: dict[str, ImageSet] = {one.name: one for one in (Faces(), Avatars())}
