"""Public files of GLIDE and PITI: what they are told by, that all of a network is in them, and what is refused."""

from typing import Any

import glide_files
import pytest
import tiny
import torch
from tiny import refusal
from torch import Tensor

from tenshot.models import GlideConfig, GlideUNet, PITIConfig
from tenshot.models.pretrained import load_adm, load_condition_encoder, load_glide, load_piti, role_of

HEADS = {"head_channels": 32}
UPSAMPLER = {"low_res_channels": 3}
LOADERS = {GlideConfig: load_glide, PITIConfig: load_piti}


def with_different_weights(network: GlideUNet) -> GlideUNet:
    return tiny.randomised(network, seed=5)  # type: ignore[type-var]


def alone(network: GlideUNet) -> dict[str, Tensor]:
    """As PITI's first stage saves the encoder."""
    return {n.removeprefix("encoder."): v for n, v in glide_files.public(network).items() if n.startswith("encoder.")}


@pytest.mark.parametrize(
    ("network", "role"),
    [
        (glide_files.glide(), "base"),
        (glide_files.glide(**UPSAMPLER), "upsample"),
        (glide_files.glide(inpaint=True), "base-inpaint"),
        (glide_files.glide(inpaint=True, **UPSAMPLER), "upsample-inpaint"),
        (glide_files.piti(), "base"),
        (glide_files.piti(condition_channels=6, **UPSAMPLER), "upsample"),
        (
            glide_files.piti(num_res_blocks=2, channel_mult=(1, 1, 2), image_size=32, attention_resolutions=(16, 8)),
            "base",
        ),
    ],
)
def test_a_file_is_told_by_keys_and_shapes(network, role, tmp_path):
    torch.save(glide_files.public(network), tmp_path / "base.pt")
    loaded = LOADERS[type(network.config)](tmp_path / "base.pt", **HEADS).eval()
    assert loaded.config == network.config  # sizes, roles, heads and all
    assert role_of(loaded.config) == role
    tiny.assert_same(loaded.state_dict(), network.state_dict())


def test_half_precision_and_wrappings_are_read(tmp_path):
    network = glide_files.piti()
    half = {f"module.{name}": value.half() for name, value in glide_files.public(network).items()}
    torch.save({"state_dict": half, "step": 5}, tmp_path / "half.pt")
    loaded = load_piti(tmp_path / "half.pt", **HEADS)
    for (name, value), mine in zip(loaded.state_dict().items(), network.state_dict().values(), strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, mine.half().float()), name


@pytest.mark.parametrize("decoder", [glide_files.glide(), glide_files.piti()], ids=["glide", "piti"])
def test_the_encoder_of_the_first_stage_is_read_alone_or_beside_its_u_net(decoder):
    network = glide_files.piti(condition_channels=1)
    state = alone(network)
    tiny.assert_same(load_condition_encoder(state).state_dict(), network.context_encoder.state_dict())
    joined = load_piti(state, decoder=glide_files.public(with_different_weights(decoder)), **HEADS)
    assert joined.config == PITIConfig.of(network.config, network.config.condition)
    for name, value in joined.state_dict().items():
        source = network if name.startswith("context_encoder.") else decoder
        assert torch.equal(value, source.state_dict()[name]), name


# What is refused


@pytest.mark.parametrize(
    ("load", "network", "words"),
    [
        (load_glide, glide_files.piti(), ["not a GLIDE", "a PITI, which draws from condition images"]),
        (load_piti, glide_files.glide(), ["not a PITI", "a GLIDE, which draws from text"]),
        (load_adm, glide_files.glide(), ["not a guided-diffusion", "a GLIDE, which draws from text"]),
        (load_adm, glide_files.piti(), ["not a guided-diffusion", "a PITI"]),
        (load_condition_encoder, glide_files.piti(), ["not a condition encoder of PITI", "a PITI"]),
    ],
)
def test_another_kind_of_file_is_told_in_one_line(load, network, words):
    refusal(lambda: load(glide_files.public(network)), *words)


def test_other_files_are_told_in_one_line():
    refusal(lambda: load_glide({"lin0.model.1.weight": torch.zeros(1)}), "not a GLIDE", "heads of LPIPS")
    refusal(lambda: load_glide(alone(glide_files.piti())), "not a GLIDE", "condition encoder of PITI's first stage")
    refusal(lambda: load_piti(alone(glide_files.piti())), "condition encoder of PITI's first stage", "give decoder")
    state = alone(glide_files.piti())
    refusal(lambda: load_piti(state, decoder=state), "a condition encoder too", "give as decoder")
    plain = tiny.public_state(tiny.ddpm().unet.state_dict())
    refusal(lambda: load_glide(plain), "not a GLIDE", "a diffusion U-Net")


@pytest.mark.parametrize("config", [{}, UPSAMPLER, {"inpaint": True}], ids=["base", "upsample", "base-inpaint"])
def test_a_network_of_another_role_is_told_in_one_line(config):
    network = glide_files.glide(**config)
    state, role = glide_files.public(network), role_of(network.config)
    for other in {"base", "upsample", "base-inpaint", "upsample-inpaint"} - {role}:
        refusal(lambda other=other: load_glide(state, role=other, **HEADS), f"the network {role}", f"{other} is meant")
    assert load_glide(state, role=role, **HEADS).config == network.config


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"condition_channels": 1}, ["condition_channels 3", "not 1"]),
        ({"low_res_channels": 3}, ["low_res_channels 0", "not 3"]),
        ({"channel_mult": [1, 3]}, ["channel_mult (1, 2)", "not [1, 3]"]),
        ({"condition_chanels": 3}, ["no field 'condition_chanels'", "condition_channels"]),
    ],
)
def test_what_is_asked_for_must_be_what_the_shapes_tell(told, words):
    refusal(lambda: load_piti(glide_files.public(glide_files.piti()), **HEADS, **told), *words)


def _without(*names: str) -> Any:
    return lambda state: {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_without("decoder.transformer_proj.weight"), ["1 missing keys (transformer_proj.weight)"]),
        (_without("encoder.cnn.conv6.bias"), ["1 missing keys (context_encoder.conv.bias)"]),
        (_without("encoder.final_ln.weight", "encoder.cls_token"), ["2 missing keys", "context_encoder.class_token"]),
        (_without("decoder.out.2.weight"), ["1 missing keys (conv.weight)"]),
        (lambda state: state | {"encoder.cnn.conv9.bias": torch.zeros(1)}, ["not a PITI", "1 unknown keys (cnn.conv9"]),
        (lambda state: state | {"optimizer.step": torch.zeros(1)}, ["not a PITI", "1 unknown keys (optimizer.step)"]),
        (lambda state: state | {"decoder.input_blocks.1.0.odd.weight": torch.zeros(1)}, ["unknown keys (input_blocks"]),
        (
            lambda state: state | {"encoder.transformer.resblocks.1.mlp.c_fc.weight": torch.zeros(4, 4)},
            ["differing", "context_encoder.blocks.1.fc1.weight (4, 4) for (128, 32)"],
        ),
        (lambda state: state | {"decoder.input_blocks.0.0.weight": torch.zeros(32, 5, 3, 3)}, ["takes 5 channels"]),
        (lambda state: state | {"encoder.cls_token": "no tensor"}, ["broken", "encoder.cls_token"]),
        (lambda state: state | {"encoder.cls_token": torch.full((1, 1, 32), torch.nan)}, ["NaN", "class_token"]),
        (lambda state: {name: torch.zeros(()) for name in state}, ["broken"]),
    ],
)
def test_a_damaged_file_is_told_by_its_keys(damage, words):
    state = damage(glide_files.public(glide_files.piti()))
    refusal(lambda: load_piti(state, **HEADS), *words)
