"""GLIDE and PITI among the kinds of network: read, converted, one made of the other, and refused where they differ."""

from dataclasses import replace
from pathlib import Path

import glide_files
import pytest
import tiny
import torch
from tiny import refusal

from tenshot.checkpoints import (
    CONDITION_ENCODER,
    GLIDE_UNET,
    PITI_UNET,
    UNET,
    Trained,
    for_conditions,
    read,
    with_condition_input,
    with_encoder,
)
from tenshot.checkpoints.registry import kind_in, method_for
from tenshot.diffusion import DiffusionConfig
from tenshot.models import ConditionConfig, GlideConfig, GlideUNet, PITIConfig

HEADS = {"head_channels": 32}
UPSAMPLER = {"low_res_channels": 3}


def saved(folder: Path, network: GlideUNet) -> str:
    torch.save(glide_files.public(network), folder / "base.pt")
    return str(folder / "base.pt")


def saved_encoder(folder: Path, network: GlideUNet) -> str:
    state = glide_files.public(network)
    torch.save({n.removeprefix("encoder."): v for n, v in state.items() if n.startswith("encoder.")}, folder / "e.pt")
    return str(folder / "e.pt")


@pytest.mark.parametrize(
    ("network", "kind", "schedule", "method"),
    [
        (glide_files.glide(), GLIDE_UNET, "cosine", "PITI"),
        (glide_files.glide(**UPSAMPLER), GLIDE_UNET, "linear", "PITIUpsampler"),
        (glide_files.piti(), PITI_UNET, "cosine", "PITI"),
        (glide_files.piti(**UPSAMPLER), PITI_UNET, "linear", "PITIUpsampler"),
    ],
)
def test_a_public_file_is_read_and_converted(network, kind, schedule, method, tmp_path, tenshot: tiny.Run):
    path, copy = saved(tmp_path, network), tmp_path / "copy.safetensors"
    assert kind_in(path) is kind
    trained = read(path, told=HEADS)
    assert (trained.config, trained.method) == (network.config, method)
    assert trained.diffusion == DiffusionConfig(num_steps=1000, schedule=schedule, variance="learned_range")
    assert trained.stage == ({"low_res_size": 4} if network.config.low_res_channels else {})
    outcome = tenshot("convert", path, copy, "--head_channels", "32")
    assert outcome.status == 0, outcome.err
    again = read(str(copy))
    assert again.kind is kind
    assert (again.config, again.diffusion, again.stage) == (trained.config, trained.diffusion, trained.stage)
    tiny.assert_same(again.fill("unet", GlideUNet(again.config)).state_dict(), network.state_dict())


def test_an_encoder_alone_is_read_and_converted(tmp_path, tenshot: tiny.Run):
    network = glide_files.piti(condition_channels=6)
    path, copy = saved_encoder(tmp_path, network), tmp_path / "copy.safetensors"
    assert tenshot("convert", path, copy).status == 0
    for file in (path, copy):
        encoder = read(str(file))
        assert encoder.kind is CONDITION_ENCODER
        assert encoder.config == network.config.condition
        tiny.assert_same(dict(encoder.states["encoder"]), network.context_encoder.state_dict())


def glide(folder: Path, **changes: object) -> Trained[GlideConfig]:
    return read(saved(folder, glide_files.glide(**changes)), GLIDE_UNET, told=HEADS)


def test_a_glide_becomes_a_piti_with_its_u_net_and_a_fresh_or_a_trained_encoder(tmp_path):
    source, condition = glide(tmp_path), ConditionConfig(channels=1, size=32, grid=2, width=32, layers=2, heads=1)
    fresh = for_conditions(source, condition)
    assert fresh.config == PITIConfig.of(source.config, condition)
    trained = glide_files.piti(condition_channels=1, condition_layers=3)
    encoder = read(saved_encoder(tmp_path, trained), CONDITION_ENCODER)
    joined = with_encoder(source, encoder)
    again = with_encoder(fresh, encoder)
    for made in (fresh, joined, again):
        network = made.fill("unet", GlideUNet(made.config))  # all of it, and nothing else
        assert made.kind is PITI_UNET
        assert made.diffusion == source.diffusion
        for name, value in network.state_dict().items():
            if not name.startswith("context_encoder."):
                assert torch.equal(value, source.states["unet"][name]), name
        if made is not fresh:
            tiny.assert_same(network.context_encoder.state_dict(), trained.context_encoder.state_dict())


def test_any_diffusion_model_becomes_a_piti_whose_time_embedding_is_its_own(tmp_path):
    method = tiny.randomised(tiny.ddpm())
    source = read(str(tiny.weights_file(tmp_path / "a.safetensors", method)), UNET)
    condition = ConditionConfig(channels=1, size=32, grid=2, width=32, layers=2, heads=1)
    made = for_conditions(source, condition)
    network = made.fill("unet", GlideUNet(made.config))
    assert made.kind is PITI_UNET
    assert made.diffusion == source.diffusion
    assert made.config == PITIConfig.of(tiny.unet_config(context_channels=32), condition)
    weights = network.state_dict()
    tiny.assert_same({name: weights[name] for name in source.states["unet"]}, dict(source.states["unet"]))
    t, pooled = torch.tensor([5]), torch.randn(1, 32)
    assert torch.equal(network.embed(t, None, None, pooled), method.unet.embed(t, None))
    assert all(value.any() for name, value in weights.items() if "context_kv.weight" in name)


def test_a_condition_in_the_first_convolution_changes_nothing_at_first(tmp_path):
    source = read(str(tiny.weights_file(tmp_path / "a.safetensors", tiny.randomised(tiny.ddpm()))), UNET)
    condition = ConditionConfig(channels=1, size=32, grid=2, width=32, layers=2, heads=1)
    plain = for_conditions(source, condition)
    sees = with_condition_input(plain)
    assert (plain.config.condition_input, sees.config.condition_input) == (False, True)
    networks = [made.fill("unet", GlideUNet(made.config)) for made in (plain, sees)]
    assert torch.equal(*(network(**glide_files.given(network)) for network in networks))
    assert networks[1].condition_stem.weight.shape == (32, 1, 3, 3)
    stem = "condition_stem.weight"
    trained = replace(sees, states={"unet": {**sees.states["unet"], stem: torch.ones(32, 1, 3, 3)}})
    assert for_conditions(with_condition_input(trained), condition).states["unet"][stem].all()
    others = for_conditions(trained, replace(condition, channels=3))
    assert not others.config.condition_input
    for made in (others, with_condition_input(others)):
        network = made.fill("unet", GlideUNet(made.config))
        assert network.condition_stem is None or not network.condition_stem.weight.any()


def test_what_does_not_go_together_is_one_line(tmp_path):
    source = glide(tmp_path, inpaint=True)
    refusal(lambda: for_conditions(source, ConditionConfig(size=32, grid=2, width=32, heads=1)), "does not inpaint")
    narrow = glide(tmp_path)
    refusal(lambda: for_conditions(narrow, ConditionConfig()), "context_channels 32", "512 channels")


def test_another_kind_is_refused_in_one_line(tmp_path):
    path = saved(tmp_path, glide_files.glide())
    refusal(lambda: read(path, PITI_UNET), "base.pt: not a PITI", "a GLIDE, which draws from text")
    refusal(lambda: read(path, UNET), "base.pt: not a guided-diffusion", "a GLIDE, which draws from text")
    refusal(lambda: method_for(path), "base.pt: a GLIDE, which draws none", "load_glide", "PITI")
    path = saved(tmp_path, glide_files.piti())
    refusal(lambda: read(path, GLIDE_UNET), "base.pt: not a GLIDE", "a PITI, which draws from condition images")
    assert method_for(path) == "PITI"
    path = saved_encoder(tmp_path, glide_files.piti())
    refusal(lambda: read(path, PITI_UNET), "e.pt: not a PITI", "the condition encoder of PITI's first stage")
    refusal(lambda: method_for(path), "e.pt: a condition encoder of PITI, which draws none", "GLIDE")


def test_other_channels_than_the_files_are_refused_in_one_line(tmp_path):
    path = saved(tmp_path, glide_files.piti())
    refusal(lambda: read(path, PITI_UNET, told=HEADS | {"condition_channels": 1}), "condition_channels 3", "not 1")
    trained = read(path, PITI_UNET, told=HEADS)
    asked = PITIConfig(**{**vars(trained.config), "condition_channels": 6})
    refusal(lambda: trained.config_for(asked), "piti.condition_channels 3 (here 6)")
