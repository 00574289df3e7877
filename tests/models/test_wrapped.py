"""Weights under prefixes and in wrappings, and what other files are said to be."""

from typing import Any

import pytest
import torch

from tenshot.models.pretrained.unpickling import Inert
from tenshot.models.pretrained.wrapped import seems, unwrapped

RAW, AVERAGE = {"conv.weight": 1, "conv.bias": 2}, {"conv.weight": 3, "conv.bias": 4}


def found(content: dict[Any, Any]) -> Any:
    return unwrapped(content, lambda state: "conv.weight" in state)


def under(prefix: str, state: dict[str, int] = RAW) -> dict[str, int]:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "content",
    [
        RAW, under("module."), under("_orig_mod."), under("module._orig_mod.model."), {"model": RAW, "optimizer": {}},
        {"epoch": 3, "state_dict": under("net.")}, {"a": {"b": {"c": RAW}}}, {"optimizer": {0: 1}, "network": RAW},
        {"state": {1: {"exp_avg": 0}}, "weights": under("network.")},
    ],
)  # fmt: skip
def test_the_network_is_found(content: dict[Any, Any]):
    assert found(content) == RAW


@pytest.mark.parametrize(
    "content",
    [
        {"model": RAW, "model_ema": AVERAGE}, {"ema": AVERAGE, "model": RAW},
        {"model": RAW, "EMA": {"shadow": AVERAGE}}, {"net": RAW, "Averaged": under("module.", AVERAGE)},
        {"models": {"raw": RAW, "average": AVERAGE}},
    ],
)  # fmt: skip
def test_an_average_comes_before_raw_weights(content: dict[Any, Any]):
    assert found(content) == AVERAGE


@pytest.mark.parametrize(
    "content",
    [
        {}, {"model": {}}, {"conv.weights": 1}, {"a": {"b": {"c": {"d": RAW}}}},
        under("module.") | {"step": 3},  # no prefix of all names
    ],
)  # fmt: skip
def test_where_there_is_none(content: dict[Any, Any]):
    assert found(content) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state": {}, "param_groups": []}, "the state of an optimiser, not weights"),
        ({"state": {}}, "a dictionary with 0 tensors"),
        ({"pytorch-lightning_version": "2", "state_dict": RAW}, "a checkpoint of another program"),
        ({"module.down_blocks.0.weight": 1}, "a network of diffusers"),
        ({"model.diffusion_model.input_blocks.0": 1}, "a latent diffusion model"),
        ({"model.diffusion_model.input_blocks.0": 1, "first_stage_model.x": 1}, "a latent diffusion model"),
        ({"input_blocks.0.weight": 1}, "a diffusion U-Net"),
        ({"synthesis.b4.const": 1}, "a StyleGAN2 or StyleGAN3"),
        ({"to_rgb1.bias": 1}, "a generator of StyleGAN2"),
        ({"final_linear.0.weight": 1}, "a discriminator of StyleGAN2"),
        ({"g_ema": 1}, "a StyleGAN"), ({"D": 1, "more": 2}, "a StyleGAN"),
        ({"Mixed_5b.weight": 1}, "an Inception"), ({"lin0.weight": 1}, "heads of LPIPS"),
        ({1: 2, "net": Inert()}, "a file whose 'net' is a whole object, not a dictionary of weights"),
        ({}, "an empty dictionary"), ({"module.": {}}, "a dictionary with 0 tensors"),
        ({1: torch.ones(1), "b": torch.ones(1), "c": 2}, "a dictionary with 2 tensors and 3 unknown keys (1, b, c)"),
    ],
)  # fmt: skip
def test_what_a_file_seems_to_be(content: dict[Any, Any], words: str):
    assert seems(content).startswith(words)
