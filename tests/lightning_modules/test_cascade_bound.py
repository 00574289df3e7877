"""Bits per dimension of a cascade from the command line: its parts are those of its models alone."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny_stages import NOISY, saved, stage
from torch.nn import functional as F

from tenshot.datamodules.pixels import from_pixels, to_pixels
from tenshot.diffusion import Denoiser, DiffusionConfig, GaussianDiffusion, bits_per_dim
from tenshot.lightning_modules import Cascade, CascadeStage, cascade_bound

PROCESS = DiffusionConfig(100, "cosine")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base``, 8 px, ``other``, of another process, two stages of 16 px, and ``gan``."""
    folder = tmp_path_factory.mktemp("parts")
    small = tiny.unet_config(image_size=8, attention_resolutions=(4,))
    large = tiny.unet_config(image_size=64, channel_mult=(1, 1), attention_resolutions=())
    modules: dict[str, Any] = {
        "base": tiny.ddpm(unet=small, diffusion=PROCESS),
        "other": tiny.ddpm(unet=small, diffusion=DiffusionConfig(100, "linear")),
        "stage": stage(augmentation=NOISY, diffusion=PROCESS),
        "another": stage(augmentation=NOISY, diffusion=PROCESS),
        "gan": tiny.gan(),
        "s64": stage(unet=large, low_res_size=32),
    }
    for number, (name, module) in enumerate(modules.items()):
        (folder / name).mkdir()
        saved(folder / name, tiny.randomised(module, number))
    return folder


def cascade(files: Path, base: str = "base", name: str = "stage", s: int | None = 0, **arguments: Any) -> Cascade:
    options = {name: arguments.pop(name) for name in ("start_step",) if name in arguments}
    module = Cascade(
        str(files / base / "saved.ckpt"), [CascadeStage(str(files / name / "saved.ckpt"), s, **options)], **arguments
    )
    module.configure_model()
    return module


def validated(folder: Path, module: Cascade) -> dict[str, float]:
    """What validation logs, of images at 256 levels."""
    trainer = tiny.trainer(folder, 1)
    trainer.validate(module, tiny.faces(num_val=3, batch_size=2), verbose=False)
    return {name.removeprefix("val/bits_per_dim"): float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("s", [0, 7])
def test_the_parts_are_the_bounds_of_base_and_stage_and_the_base_does_not_look_at_the_stage(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s: int
):
    same = lambda x: torch.full_like(x, 0.3)  # noqa: E731
    monkeypatch.setattr(cascade_bound, "bits_per_dim", partial(bits_per_dim, randn=same))
    module = cascade(files, s=s, bits_per_dim="4")
    found = validated(tmp_path, module)

    source = tiny.faces(num_val=3).val_source
    assert source is not None
    x = from_pixels(source.read(range(3))["image"])
    z = from_pixels(to_pixels(F.avg_pool2d(x, 2)))
    base, own = module.generators
    steps = sorted({*GaussianDiffusion(PROCESS).respace("4").timestep_map, *([s - 1] if s else [])})
    of_base = bits_per_dim(
        Denoiser(GaussianDiffusion(PROCESS, steps), base.unet), z, {}, above=s, randn=same  # type: ignore[union-attr]
    )  # fmt: skip
    assert found["_base"] == pytest.approx(of_base.total.mean().item(), rel=1e-4)
    total = (found["_base"] * 8 * 8 + found["_stage0"] * 16 * 16) / 16**2
    assert found[""] == pytest.approx(total, rel=1e-4)
    if s == 0:  # z_0 is the condition as it is
        low_res = F.interpolate(z, size=16, mode="bilinear", align_corners=False)
        told = {"low_res": low_res, "s": torch.zeros(3, dtype=torch.int64)}
        of_stage = bits_per_dim(
            Denoiser(GaussianDiffusion(PROCESS).respace("4"), own.unet), x, told, randn=same  # type: ignore[union-attr]
        )  # fmt: skip
        assert found["_stage0"] == pytest.approx(of_stage.total.mean().item(), rel=1e-4)
    other = validated(tmp_path, cascade(files, name="another", s=s, bits_per_dim="4"))
    assert other["_base"] == found["_base"]
    assert other["_stage0"] != found["_stage0"]


def test_what_has_no_bound_is_refused_before_it_is_evaluated(files: Path, tmp_path: Path):
    for module, words in (
        (cascade(files, "gan", "s64", None), ["base is of StyleGAN2, which has no likelihood"]),
        (cascade(files, start_step=60), ["--model.stages[0].start_step", "drop it"]),
        (cascade(files, "other", s=7), ["--model.stages[0] counts s in 100 steps, cosine", "100 steps, linear"]),
    ):
        tiny.refusal(module.on_validation_start, *words)
    cascade(files, "other", s=0).on_validation_start()
    module, x = cascade(files), torch.zeros(1, 3, 32, 32)
    tiny.refusal(lambda: module.validation_step({"image": x}, 0), "draws 16 px", "the data are of 32 px")
