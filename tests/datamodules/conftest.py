"""Photographs that scikit-image carries in its wheel, as files of several formats."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pair_files import drawn
from PIL import Image
from skimage import data


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five photographs, one of them in a folder below, and things that are no images."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for name, pixels in {
        "astronaut.jpg": data.astronaut(),
        "cat.webp": data.chelsea(),
        "coffee.PNG": data.coffee(),
        "more/rocket.jpeg": data.rocket(),
        "camera.bmp": data.camera(),  # grey
    }.items():
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("where these come from")
    (folder / "._cat.jpg").write_bytes(b"left by another system")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Lists of images are kept apart from those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces, their masks, sketches, depth and normals as files of the same names."""
    folder = tmp_path_factory.mktemp("pairs")
    for kind in ("mask", "sketch", "depth", "normal"):
        batch = drawn(condition=kind)
        for name in ("image", kind):
            (folder / name).mkdir(exist_ok=True)
            for number, pixels in enumerate(batch[name].to(torch.uint8)):
                shown = pixels.squeeze() if pixels.shape[0] == 1 else pixels
                shown = shown.permute(1, 2, 0) if shown.ndim == 3 else shown
                Image.fromarray(shown.numpy()).save(folder / name / f"{number:02}.png")
    return folder
