"""Small sets of images with whatever lies beside images: as a folder, in a zip, in a tar."""

import io
import tarfile
import zipfile
from pathlib import Path

from PIL import Image
from skimage import data

WANTED = ["cat/0.png", "cat/1.png", "dog/0.png"]
JUNK = [
    ".0.png", "._0.png", ".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/cat/._0.png", "__MACOSX/cat/0.png",
    "@eaDir/0.png/SYNOPHOTO_THUMB_M.png", "cat/@eaDir/1.png", "cat/.ipynb_checkpoints/0-checkpoint.png", "Thumbs.db",
    "cat/Thumbs.db", ".thumbnails/0.png", "$RECYCLE.BIN/0.png", "#recycle/0.png", "lost+found/0.png",
    "System Volume Information/0.png", "dog/._0.cls",
]  # fmt: skip


def photo(number: int = 0) -> Image.Image:
    return Image.fromarray(data.astronaut()[8 * number : 8 * number + 40, :40])


def png(number: int = 0) -> bytes:
    out = io.BytesIO()
    photo(number).save(out, "PNG")
    return out.getvalue()


def contents() -> dict[str, bytes]:
    return {name: png(number) for number, name in enumerate([*WANTED, *JUNK])}


def folder(root: Path, inside: dict[str, bytes] | None = None) -> Path:
    for name, content in (contents() if inside is None else inside).items():
        (root / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "set" / name).write_bytes(content)
    return root / "set"


def zipped(root: Path, inside: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        for name, content in (contents() if inside is None else inside).items():
            archive.writestr(name, content)
    return root / "set.zip"


def tarred(root: Path, inside: dict[str, bytes] | None = None, name: str = "set.tar") -> Path:
    with tarfile.open(root / name, "w") as archive:
        for file, content in (contents() if inside is None else inside).items():
            info = tarfile.TarInfo(file)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return root / name
