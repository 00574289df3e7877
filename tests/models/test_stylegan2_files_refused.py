"""Public StyleGAN2 files that are refused."""

from pathlib import Path
from typing import Any

import nvlabs_files
import pytest
import stylegan2_files as files
import tiny
import torch

from tenshot.models.pretrained import load_stylegan2, read_stylegan2


def changed(part: str, **values: Any) -> dict[str, Any]:
    content = files.checkpoint()
    content[part] |= {name.replace("__", "."): value for name, value in values.items()}
    return content


def test_unknown_and_missing_keys_are_listed(tmp_path: Path):
    content = changed("g_ema", synthesis__extra=torch.ones(1))
    del content["g_ema"]["convs.1.noise.weight"]
    torch.save(content, tmp_path / "a.pt")
    message = tiny.refusal(lambda: read_stylegan2(tmp_path / "a.pt"), f"{tmp_path / 'a.pt'} (g_ema)")
    assert "1 unknown keys (synthesis.extra)" in message
    assert "1 missing keys (convs.1.noise.weight)" in message


def test_a_discriminator_of_another_size_is_refused():
    smaller = files.discriminator_state({4: 8, 8: 8})
    tiny.refusal(lambda: read_stylegan2(files.checkpoint(d=smaller)), "(d)", "missing keys", "convs.2.conv1.0.weight")


@pytest.mark.parametrize("name", ["convs.0.activate.bias", "to_rgbs.0.conv.weight", "style.2.weight", "noises.noise_3"])
def test_shapes_that_do_not_fit_are_listed(name: str):
    content = files.checkpoint()
    content["g_ema"][name] = torch.ones(2, 7)
    tiny.refusal(lambda: read_stylegan2(content), "(g_ema)", "1 differing keys", "(2, 7) for (")


@pytest.mark.parametrize("part", ["g_ema", "d"])
def test_another_filter_is_refused(part: str):
    name = "convs.0.conv.blur.kernel" if part == "g_ema" else "convs.1.skip.0.kernel"
    for kernel in (torch.ones(4, 4) / 4, 2 * files.checkpoint()[part][name], torch.ones(2, 2)):
        content = files.checkpoint()
        content[part][name] = kernel
        tiny.refusal(lambda content=content: read_stylegan2(content), f"({part})", name, "another filter")


def test_widths_that_no_configuration_describes_are_refused():
    widths = {4: 6, 8: 8, 16: 8}
    tiny.refusal(lambda: read_stylegan2(files.generator_state(widths)), "6, 8, 8 channels", "channel_base")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, ("no generator", "neither is there")),
        ({"d": files.discriminator_state()}, ("no generator", "found d")),
        ({"g_ema": {}}, ("not a generator of rosinality's", "0 other keys")),
        ({"g_ema": 3}, ("(g_ema)", "found a int")),
        ({"g_ema": {"conv1.weight": torch.ones(1)}}, ("not a generator of rosinality's", "conv1.weight")),
        ({"g_ema": files.generator_state() | {"extra": "words"}}, ("'extra' is a str",)),
    ],
)
def test_files_without_a_generator_are_refused(content: dict[str, Any], words: tuple[str, ...]):
    tiny.refusal(lambda: read_stylegan2(content), *words)


def test_a_class_conditional_pickle_is_refused(tmp_path: Path):
    state = nvlabs_files.nvlabs_state(files.generator_state(), torch.zeros(files.DIM))
    network = nvlabs_files.network("Generator", state, c_dim=10)
    path = nvlabs_files.dump({"G_ema": network}, tmp_path / "network.pkl")
    tiny.refusal(lambda: load_stylegan2(path), str(path), "class-conditional")
