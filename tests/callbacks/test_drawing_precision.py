"""A seed gives the same image wherever it is drawn, in the precision of the trainer."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from tenshot.lightning_modules import DDPM, StyleGAN2

pytestmark = pytest.mark.slow

GAN = {
    "class_path": "StyleGAN2",
    "init_args": {"stylegan2": {"image_size": 32, "channel_base": 256, "max_channels": 16, "latent_dim": 8}},
}
SETTINGS = {
    "trainer": tiny.COMMAND_LINE["trainer"] | {"precision": "bf16-mixed"},
    "grid": {"every_n_steps": 2, "count": 3},
    "strip": {"every_n_steps": 2, "rows": 1, "points": 3},
    "evaluate": {
        "every_n_steps": 2, "fit_samples": 3, "samples": 3, "reference": 3, "features": "random",
        "metrics": ["frechet"],
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", [DDPM, StyleGAN2])
def test_grids_strips_and_evaluation_in_fit_draw_what_test_and_predict_draw(
    tenshot: tiny.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[DDPM] | type[StyleGAN2]
):
    drawn: list[Tensor] = []
    sample = kind.sample

    def watched(self: Any, seeds: Tensor, condition: Tensor | None = None, preview: bool = False) -> Tensor:
        images = sample(self, seeds, condition)  # grids with the sampler of all others
        drawn.append(images.clone())
        return images

    monkeypatch.setattr(kind, "sample", watched)
    data = {"class_path": "SyntheticFaces", "init_args": {"image_size": 32, "batch_size": 4, "num_images": 12}}
    method = {"model": GAN, "data": data} if kind is StyleGAN2 else {}
    config = tiny.write_yaml(tmp_path / "fit.yaml", tiny.COMMAND_LINE | method | SETTINGS)
    run = tmp_path / "run"

    def draws(*words: str | Path) -> list[Tensor]:
        drawn.clear()
        outcome = tenshot(*words)
        assert outcome.status == 0, outcome.err
        return [images[:3].float() for images in drawn]

    in_fit = draws("fit", "--config", config, "--trainer.default_root_dir", run)
    strips = [path.read_bytes() for path in (run / "strips").glob("*.png")]
    [tested] = draws("test", "--ckpt_path", run)
    [predicted] = draws("predict", "--ckpt_path", run, "--images.count", "3")
    assert len(in_fit) == 2
    for images in (*in_fit, tested):
        assert torch.equal(images, predicted)
    assert [path.read_bytes() for path in (run / "strips").glob("*.png")] == strips
    assert len(strips) == (kind is StyleGAN2)
    words = ["--images.dir", str(tmp_path / "images"), "--trainer.precision", "32-true"]
    [exact] = draws("predict", "--ckpt_path", run, "--images.count", "3", *words)
    assert not torch.equal(exact, predicted)
