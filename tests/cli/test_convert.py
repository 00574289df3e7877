import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from tenshot.lightning_modules import DDPM
from tenshot.models.pretrained import load_adm


def loaded(path: Path) -> DDPM:
    module = DDPM(init_from=str(path))
    module.configure_model()
    return module


def answers(module: DDPM) -> Tensor:
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return module.unet.eval()(x, torch.tensor([7, 700]))


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_run_converts_and_loads_back(tenshot: tiny.Run, trained: Path, tmp_path: Path, weights: str):
    target = tmp_path / "new" / f"{weights}.safetensors"
    outcome = tenshot("convert", trained, target, "--weights", weights)
    assert outcome.status == 0, outcome.err
    source = DDPM(init_from=str(trained), init_weights=weights)  # type: ignore[arg-type]
    source.configure_model()
    copy = loaded(target)

    tiny.assert_same(copy.unet.state_dict(), source.unet.state_dict())
    assert torch.equal(answers(copy), answers(source))
    assert (copy.unet.config, copy.diffusion.config) == (source.unet.config, source.diffusion.config)
    assert str(target) in outcome.out
    assert f"{sum(p.numel() for p in copy.unet.parameters()):,} parameters" in outcome.out


def test_the_header_tells_the_architecture_in_plain_json(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    tenshot("convert", trained, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        header = {name: json.loads(value) for name, value in file.metadata().items()}
    assert header["unet"]["channel_mult"] == [1]
    assert header["diffusion"]["schedule"] == "linear"
    assert header["method"] == "DDPM"


def test_a_configuration_of_the_users_own_is_not_overwritten(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    target = tmp_path / "a.safetensors"
    (tmp_path / "a.yaml").write_text("seed_everything: 1\n")
    assert "a.yaml: is there, and another configuration" in tenshot("convert", trained, target).complaint
    assert (tmp_path / "a.yaml").read_text() == "seed_everything: 1\n"
    assert not target.exists()
    (tmp_path / "a.yaml").unlink()
    assert [tenshot("convert", trained, target).status for _ in range(2)] == [0, 0]


def test_the_configuration_beside_it_starts_a_run(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    target = tmp_path / "a.safetensors"
    tenshot("convert", trained, target)
    rest: dict[str, Any] = yaml.safe_load(Path(tiny.config_file(tmp_path)).read_text())
    del rest["model"]
    (tmp_path / "rest.yaml").write_text(yaml.safe_dump(rest))
    words = ["--config", target.with_suffix(".yaml"), "--config", tmp_path / "rest.yaml", "--trainer.max_steps", "1"]
    outcome = tenshot("fit", *words, "--trainer.default_root_dir", tmp_path / "run")

    assert outcome.status == 0, outcome.err
    saved = torch.load(tmp_path / "run" / "checkpoints" / "step=00000001.ckpt", weights_only=True)
    before = loaded(target).unet.state_dict()["conv.weight"]
    assert 0 < (saved["state_dict"]["unet.conv.weight"] - before).abs().max() < 1e-3  # one step at the default rate


def test_a_public_checkpoint_converts_with_what_shapes_do_not_tell(tenshot: tiny.Run, tmp_path: Path):
    module = tiny.randomised(tiny.ddpm())
    torch.save(tiny.public_state(module.unet.state_dict()), tmp_path / "model.pt")
    words = ["convert", tmp_path / "model.pt", tmp_path / "a.safetensors"]
    assert "shapes do not tell image_size, attention_order, num_heads or head_channels" in tenshot(*words).complaint
    words += ["--image_size", "16", "--head_channels", "32", "--attention_order", "legacy"]
    assert "does not tell its noise process: give --diffusion.schedule" in tenshot(*words).complaint
    words += ["--diffusion.schedule", "cosine", "--diffusion.num_steps", "400", "--dropout", "0.1"]
    outcome = tenshot(*words)

    assert outcome.status == 0, outcome.err
    copy = loaded(tmp_path / "a.safetensors")
    assert torch.equal(answers(copy), answers(module))
    assert copy.unet.config == tiny.unet_config(dropout=0.1)
    assert (copy.diffusion.config.schedule, copy.diffusion.config.num_steps) == ("cosine", 400)
    told = load_adm(tmp_path / "model.pt", image_size=16, head_channels=32, attention_order="legacy")
    tiny.assert_same(told.state_dict(), copy.unet.state_dict())
