"""Which files the frozen source of DDPM-PA is read from, when a run starts and when it is resumed."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from tenshot.callbacks import EMA, StepCheckpoint
from tenshot.diffusion import DiffusionConfig
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPMPA, Pairwise


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = tiny.randomised(tiny.ddpm(unet=tiny.unet_config(dropout=0.3)))
    return tiny.weights_file(tmp_path_factory.mktemp("source") / "source.safetensors", module)


def test_resuming_changes_nothing_and_needs_the_same_source(tmp_path: Path, source: Path):
    def run(folder: Path, path: Path, steps: int, resume: bool = False) -> dict[str, Any]:
        saves = [StepCheckpoint(every_n_steps=100)]
        trainer = tiny.trainer(folder, steps, *saves, ema=EMA(0.9))  # type: ignore[arg-type]
        checkpoint = max((folder / "checkpoints").glob("*.ckpt")) if resume else None
        module = tiny.ddpm_pa(path, collapse_every_n_steps=2, pairwise=Pairwise(anchors=3, source_dropout=True))
        trainer.fit(module, tiny.faces(), ckpt_path=checkpoint)
        return torch.load(folder / "checkpoints" / f"step={steps:08d}.ckpt", weights_only=True)

    whole = run(tmp_path / "whole", source, 3)
    run(tmp_path / "halves", source, 2)
    copy = tmp_path / "moved.safetensors"
    shutil.copy(source, copy)
    resumed = run(tmp_path / "halves", copy, 3, resume=True)  # the same weights from another place will do
    for part in ("state_dict", "optimizer_states", "ema"):
        tiny.assert_same(resumed[part], whole[part], part)

    other = tiny.weights_file(tmp_path / "other.safetensors", tiny.randomised(tiny.ddpm(), seed=1))
    with pytest.raises(
        InputError, match=r"other.safetensors: not the source model that this run began with, .*--model"
    ):
        run(tmp_path / "halves", other, 6, resume=True)


def test_a_file_of_other_than_public_shapes_is_read_as_the_network_that_was_given(tmp_path: Path):
    """As a source, from the same file or from another one, and again when the run is resumed."""
    state = tiny.public_state(tiny.randomised(tiny.ddpm()).unet.state_dict())
    paths = [tmp_path / name for name in ("one.pt", "two.pt")]
    for path in paths:
        torch.save(state, path)
    given = {"unet": tiny.unet_config(), "diffusion": DiffusionConfig()}
    for path in paths:
        module = tiny.ddpm_pa(paths[0], source=str(path), **given)
        tiny.trainer(tmp_path / path.stem, 1, StepCheckpoint()).fit(module, tiny.faces())
        record = torch.load(tmp_path / path.stem / "checkpoints/step=00000001.ckpt", weights_only=True)["tenshot"]
        assert record["source"]["unet"] == record["unet"]
        again = DDPMPA(source=str(path), sampler=tiny.QUICK, preview_sampler=tiny.QUICK, optimizer=tiny.adam(), **given)
        trainer = tiny.trainer(tmp_path / path.stem, 2)
        trainer.fit(again, tiny.faces(), ckpt_path=tmp_path / path.stem / "checkpoints/step=00000001.ckpt")
        assert again.source.network is not None
        tiny.assert_same(again.source.network.state_dict(), tiny.randomised(tiny.ddpm()).unet.state_dict())
