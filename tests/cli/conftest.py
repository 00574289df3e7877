"""A cache of its own, and things that are not what they should be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """A folder of things that are not what they should be, and a configuration that is."""
    folder = tmp_path_factory.mktemp("bad")
    Path(tiny.config_file(folder)).rename(folder / "good.yaml")
    unet = (folder / "good.yaml").read_text().replace("head_channels", "head_chanels")
    (folder / "unknown.yaml").write_text(unet)
    (folder / "section.yaml").write_text("trainr: {max_steps: 2}\n")
    (folder / "broken.yaml").write_text("trainer: {max_steps: 2}\nmodel: [a\n  b: {")
    (folder / "text.yaml").write_text("max_steps is 2")
    (folder / "weights.pt").write_text("see elsewhere")
    whole = (trained / "checkpoints" / "step=00000004.ckpt").read_bytes()
    (folder / "torn.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save({"weights": tiny.Bomb(folder / "fuse")}, folder / "bomb.ckpt")
    torch.save({"weights": torch.zeros(3)}, folder / "plain.ckpt")
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": {}}, folder / "foreign.ckpt")
    (folder / "empty").mkdir()
    return folder
