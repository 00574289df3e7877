"""``tenshot convert`` of StyleGAN2s, there and back."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nvlabs_files
import pytest
import stylegan2_files as files
import tiny
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tenshot.models.pretrained import read_stylegan2
from tenshot.models.stylegan2 import StyleGAN2Config

CONFIG = StyleGAN2Config(image_size=16, channel_base=96, max_channels=8, latent_dim=5, mapping_layers=3)


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A file of rosinality's training, with the average latent that its converter adds."""
    path = tmp_path / "010000.pt"
    torch.save(files.checkpoint(latent_avg=torch.linspace(-1, 1, 5)), path)
    return path


def lightning_checkpoint(path: Path, averaged: bool = True) -> Path:
    """A checkpoint of ours with the weights of ``public``."""
    found = read_stylegan2(files.checkpoint(latent_avg=torch.linspace(-1, 1, 5)))
    assert found.generator
    assert found.average
    assert found.discriminator
    state = {f"generator.{name}": value for name, value in found.generator.items()}
    state |= {f"discriminator.{name}": value for name, value in found.discriminator.items()}
    content: dict[str, Any] = {
        "pytorch-lightning_version": "2.6.0", "global_step": 7, "state_dict": state,
        "tenshot": {"method": "StyleGAN2", "stylegan2": asdict(CONFIG)},
    }  # fmt: skip
    if averaged:
        content["ema"] = {"decay": 0.9, "updates": 7, "weights": {"generator": dict(found.average)}}
    torch.save(content, path)
    return path


def parts(path: Path) -> dict[str, dict[str, Tensor]]:
    """The two networks in a file of ours."""
    state = load_file(path)
    split: dict[str, dict[str, Tensor]] = {"generator": {}, "discriminator": {}}
    for name, value in state.items():
        part, key = name.split(".", 1)
        split[part][key] = value
    return split


@pytest.mark.parametrize(("weights", "field"), [("ema", "average"), ("raw", "generator")])
def test_a_public_file_becomes_one_of_ours(tenshot: tiny.Run, public: Path, tmp_path: Path, weights: str, field: str):
    target = tmp_path / "new" / "gan.safetensors"
    outcome = tenshot("convert", public, target, "--weights", weights)
    assert outcome.status == 0, outcome.err

    found = read_stylegan2(public)
    tiny.assert_same(parts(target), {"generator": getattr(found, field), "discriminator": found.discriminator})
    with safe_open(target, framework="pt") as file:
        header = {name: json.loads(value) for name, value in file.metadata().items()}
    assert header == {"method": "StyleGAN2", "stylegan2": asdict(CONFIG)}
    beside = yaml.safe_load(target.with_suffix(".yaml").read_text())
    assert beside == {"model": {"class_path": "StyleGAN2", "init_args": {"init_from": str(target)}}}
    assert "rosinality" in outcome.out
    assert {"ema": "averaged", "raw": "raw"}[weights] in outcome.out


def test_a_checkpoint_of_ours_becomes_the_public_file_it_came_from(tenshot: tiny.Run, public: Path, tmp_path: Path):
    source = lightning_checkpoint(tmp_path / "a.ckpt")
    outcome = tenshot("convert", source, tmp_path / "back.pt")
    assert outcome.status == 0, outcome.err
    written, original = (torch.load(path, weights_only=False) for path in (tmp_path / "back.pt", public))
    assert written.keys() == {"g", "g_ema", "d", "latent_avg"}
    tiny.assert_same(written, {name: original[name] for name in written})
    assert "change its table of channels" in outcome.out  # of these tiny widths


def test_there_and_back_by_way_of_safetensors(tenshot: tiny.Run, public: Path, tmp_path: Path):
    middle, back = tmp_path / "gan.safetensors", tmp_path / "back.pt"
    assert tenshot("convert", public, middle).status == 0
    assert tenshot("convert", middle, back).status == 0
    written, original = (torch.load(path, weights_only=False) for path in (back, public))
    tiny.assert_same(written["g_ema"], original["g_ema"])
    tiny.assert_same(written["d"], original["d"])
    tiny.assert_same(written["latent_avg"], original["latent_avg"])


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_checkpoint_without_an_average_gives_its_only_weights(tenshot: tiny.Run, tmp_path: Path, weights: str):
    source = lightning_checkpoint(tmp_path / "a.ckpt", averaged=False)
    target = tmp_path / "gan.safetensors"
    outcome = tenshot("convert", source, target, "--weights", weights)
    assert outcome.status == 0, outcome.err
    tiny.assert_same(parts(target)["generator"]["const"], files.generator_state(seed=2)["input.input"])
    assert "raw weights of step 7" in outcome.out


def test_a_generator_alone_is_converted_without_a_discriminator(tenshot: tiny.Run, tmp_path: Path):
    torch.save({"g_ema": {f"module.{k}": v for k, v in files.generator_state().items()}}, tmp_path / "a.pt")
    assert tenshot("convert", tmp_path / "a.pt", tmp_path / "a.safetensors").status == 0
    assert not parts(tmp_path / "a.safetensors")["discriminator"]
    outcome = tenshot("convert", tmp_path / "a.safetensors", tmp_path / "b.pt")
    assert "no d" in outcome.out
    assert "d" not in torch.load(tmp_path / "b.pt", weights_only=True)


def test_a_pickle_of_nvlabs_is_opted_in_and_becomes_either(tenshot: tiny.Run, tmp_path: Path):
    average = torch.linspace(-1, 1, 5)
    state = nvlabs_files.nvlabs_state(files.generator_state(), average)
    path = nvlabs_files.dump({"G_ema": nvlabs_files.network("Generator", state)}, tmp_path / "network.pkl")
    for target in ("a.pt", "a.safetensors"):
        outcome = tenshot("convert", path, tmp_path / target)
        assert outcome.status == 0, outcome.err
    expected = read_stylegan2({"g_ema": files.generator_state(), "latent_avg": average}).average
    tiny.assert_same(parts(tmp_path / "a.safetensors")["generator"], expected)
    tiny.assert_same(torch.load(tmp_path / "a.pt", weights_only=True)["g_ema"], files.generator_state())


@pytest.mark.parametrize("words", [["--image_size", "16"], ["--diffusion.schedule", "linear"], ["--dropout", "0"]])
def test_options_of_diffusion_networks_are_refused(tenshot: tiny.Run, public: Path, tmp_path: Path, words: list[str]):
    complaint = tenshot("convert", public, tmp_path / "a.safetensors", *words).complaint
    assert "holds a StyleGAN2" in complaint
    assert words[0].split(".")[0] in complaint


def test_another_ending_is_refused(tenshot: tiny.Run, public: Path, tmp_path: Path):
    assert ".safetensors or .pt" in tenshot("convert", public, tmp_path / "a.onnx").complaint


def test_a_diffusion_network_has_no_pt(tenshot: tiny.Run, trained: Path, tmp_path: Path):
    assert "ending .safetensors" in tenshot("convert", trained, tmp_path / "a.pt").complaint


def test_weights_that_do_not_fit_their_header_are_refused(tenshot: tiny.Run, tmp_path: Path):
    source = lightning_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(source, weights_only=True)
    del content["ema"]["weights"]["generator"]["const"]
    torch.save(content, source)
    for target in ("a.safetensors", "a.pt"):
        assert "1 missing keys (const)" in tenshot("convert", source, tmp_path / target).complaint
        assert not (tmp_path / target).exists()
