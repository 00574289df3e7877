"""Sources that come with the package: a name in place of a file, wherever weights are given."""

import json
from pathlib import Path

import pytest
import tiny
import torch
import yaml

from tenshot.checkpoints import shipped
from tenshot.errors import InputError
from tenshot.lightning_modules import DDPM

pytestmark = pytest.mark.slow

QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
STEP = ["--trainer.max_steps", "1", "--grid.every_n_steps", "0", *QUIET]
SMALL = [
    "--data",
    "SyntheticFaces",
    "--data.image_size",
    "16",
    "--data.num_images",
    "8",
    "--data.num_val",
    "0",
    "--data.batch_size",
    "3",
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the package's own, with two sources."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "package")
    shipped.FOLDER.mkdir()
    for seed, name in enumerate(("faces16", "avatars16")):
        tiny.weights_file(shipped.FOLDER / f"{name}.safetensors", tiny.randomised(tiny.ddpm(), seed))
    return shipped.FOLDER


def test_a_method_starts_from_the_source_of_that_name(folder: Path):
    by_name, by_file = DDPM(init_from="tenshot:faces16"), DDPM(init_from=str(folder / "faces16.safetensors"))
    for module in (by_name, by_file):
        module.configure_model()
    tiny.assert_same(by_name.unet.state_dict(), by_file.unet.state_dict())
    assert by_name.diffusion.config == by_file.diffusion.config


def test_an_adaptation_resumes_by_the_name(tenshot: tiny.Run, tmp_path: Path, folder: Path):
    """Its run records the name: it goes on with another installation of the same source, and with no other source."""
    words = ["--model", "DDPMPA", "--model.init_from", "tenshot:faces16", "--model.collapse_every_n_steps", "0", *SMALL]
    assert tenshot("fit", *words, *STEP, "--trainer.default_root_dir", "run").status == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["model"]["init_args"]["init_from"] == "tenshot:faces16"
    moved = folder.rename(tmp_path / "moved")
    shipped.FOLDER = moved
    more = ["--trainer.default_root_dir", "run", "--ckpt_path", "last", *STEP[2:], "--trainer.max_steps"]
    outcome = tenshot("fit", *words, *more, "2")
    assert outcome.status == 0, outcome.err
    assert Path("run/checkpoints/step=00000002.ckpt").exists()

    tiny.weights_file(moved / "faces16.safetensors", tiny.randomised(tiny.ddpm(), 5))
    assert "not the source model that this run began with" in tenshot("fit", *words, *more, "3").complaint


def test_predict_draws_from_it_in_a_folder_of_its_name(tenshot: tiny.Run, folder: Path):
    words = ["--images.count", "2", "--model.sampler.method", "ddim", "--model.sampler.steps", "2", *QUIET]
    drawn = []
    for weights in ("tenshot:faces16", str(folder / "faces16.safetensors"), "tenshot:avatars16"):
        outcome = tenshot("predict", "--ckpt_path", weights, *words, "--images.dir", f"{len(drawn)}")
        assert outcome.status == 0, outcome.err
        drawn.append((Path(f"{len(drawn)}") / "000001.png").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]
    record = json.loads(Path("0/drawn_by.json").read_text())
    assert str(folder / "faces16.safetensors") in json.dumps(record)


def test_a_name_that_is_none_is_refused(tenshot: tiny.Run, folder: Path):
    outcome = tenshot("fit", "--model", "DDPM", "--model.init_from", "tenshot:face16", *SMALL, *STEP)
    assert "tenshot:face16: no source of that name" in outcome.complaint
    assert "did you mean 'faces16'" in outcome.complaint
    assert "take one of avatars16, faces16" in outcome.complaint
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(InputError, match="give a run or a file"):
        shipped.shipped_file("tenshot:faces16")


def test_half_the_size_with_weights_to_three_digits(tenshot: tiny.Run, folder: Path, tmp_path: Path):
    whole, half = folder / "faces16.safetensors", tmp_path / "half.safetensors"
    assert tenshot("convert", "tenshot:faces16", half, "--half", "true").status == 0
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    modules = [DDPM(init_from=str(path)) for path in (whole, half)]
    for module in modules:
        module.configure_model()
    exact, rounded = (module.unet.state_dict() for module in modules)
    assert all(value.dtype == torch.float32 for value in rounded.values())
    assert any(not torch.equal(exact[name], rounded[name]) for name in exact)
    for name, value in exact.items():
        torch.testing.assert_close(rounded[name], value, rtol=2**-10, atol=1e-7)
    with torch.inference_mode():
        images, others = (module.eval().sample(torch.arange(4)) for module in modules)
    assert 0 < (images - others).abs().max() < 4 / 255 < (images[0] - images[1]).abs().max()  # of the same noise
