"""Public StyleGAN2 files: their layouts, what is inferred and made up, and what is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nvlabs_files
import pytest
import stylegan2_files as files
import tiny
import torch
from torch import Tensor

from tenshot.models.pretrained import channel_multiplier, load_stylegan2, read_stylegan2, save_rosinality
from tenshot.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator

CONFIG = StyleGAN2Config(image_size=16, channel_base=96, max_channels=8, latent_dim=5, mapping_layers=3)
NOISE = [f"noises.noise_{i}" for i in range(5)]


def latents(n: int = 3) -> Tensor:
    return torch.randn(n, files.DIM, generator=torch.Generator().manual_seed(7))


def drawn(generator: StyleGAN2Generator, psi: float = 1.0) -> Tensor:
    with torch.no_grad():
        w = generator.truncate(generator.mapping(latents()), psi)
        return generator.synthesis(generator.broadcast(w), noise="fixed")


def assert_close(ours: Tensor, theirs: Tensor, within: float = 1e-5) -> None:
    assert theirs.abs().max() > 1e-2
    assert (ours - theirs).abs().max() / theirs.abs().max() < within


def without(state: Mapping[str, Any], *endings: str) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not name.endswith(endings)}


# What the networks compute


def test_images_and_logits_are_those_of_the_public_layout(tmp_path: Path):
    torch.save(files.checkpoint(), tmp_path / "010000.pt")
    generator, discriminator = load_stylegan2(tmp_path / "010000.pt")

    state = files.generator_state()  # the average, not the raw weights
    assert_close(drawn(generator), files.images_from(state, files.mapped(state, latents())))
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    assert discriminator is not None
    with torch.no_grad():
        assert_close(discriminator(images), files.logits(files.discriminator_state(), images))


def test_images_and_logits_of_a_pickle_of_nvlabs_code(tmp_path: Path):
    state, average = files.generator_state(), torch.linspace(-1, 1, files.DIM)
    networks = {
        "G": nvlabs_files.network("Generator", nvlabs_files.nvlabs_state(files.generator_state(seed=2), average)),
        "G_ema": nvlabs_files.network("Generator", nvlabs_files.nvlabs_state(state, average)),
        "D": nvlabs_files.network("Discriminator", nvlabs_files.nvlabs_discriminator(files.discriminator_state())),
    }
    path = nvlabs_files.dump(networks, tmp_path / "network.pkl")
    found = read_stylegan2(path)
    generator, _ = load_stylegan2(path)

    w = average + 0.6 * (files.mapped(state, latents()) - average)
    assert_close(drawn(generator, psi=0.6), files.images_from(state, w))
    same = read_stylegan2(files.checkpoint(latent_avg=average))
    assert (found.config, generator.config) == (same.config, same.config)
    tiny.assert_same(found.average, same.average)
    tiny.assert_same(found.discriminator, same.discriminator)
    tiny.assert_same(without(found.generator or {}, "latent_average"), without(same.generator or {}, "latent_average"))


# What is in a file


def test_generator_average_and_discriminator_are_told_apart(tmp_path: Path):
    torch.save(files.checkpoint(), tmp_path / "a.pt")
    found = read_stylegan2(tmp_path / "a.pt")
    assert found.config == CONFIG
    assert found.path == str(tmp_path / "a.pt")
    assert found.generator
    assert found.average
    assert found.projection is None
    assert torch.equal(found.generator["const"], files.generator_state(seed=2)["input.input"])
    assert torch.equal(found.average["const"], files.generator_state()["input.input"])
    assert "(g, g_ema, d)" in found.origin


def test_the_adapted_files_of_cdc_hold_a_wrapped_average_alone():
    found = read_stylegan2({"g_ema": {f"module.{name}": value for name, value in files.generator_state().items()}})
    assert (found.generator, found.discriminator) == (None, None)
    tiny.assert_same(found.average, read_stylegan2(files.checkpoint()).average)
    assert load_stylegan2({"g_ema": files.generator_state()})[1] is None


def test_a_state_dict_of_a_generator_alone():
    found = read_stylegan2(files.generator_state())
    assert found.average is None
    assert found.generator
    tiny.assert_same(found.generator, read_stylegan2({"g": files.generator_state()}).generator)


def test_mixdls_projection_is_returned_apart():
    linear = {"sim_linear.weight": torch.randn(8, 8), "sim_linear.bias": torch.randn(8)}
    found = read_stylegan2(files.checkpoint(d=files.discriminator_state() | linear))
    assert found.projection
    assert torch.equal(found.projection["weight"], linear["sim_linear.weight"])
    assert torch.equal(found.projection["bias"], linear["sim_linear.bias"])
    tiny.assert_same(found.discriminator, read_stylegan2(files.checkpoint()).discriminator)


def test_filters_may_be_missing():
    bare = {name: without(files.checkpoint()[name], ".kernel") for name in ("g", "g_ema", "d")}
    found, whole = read_stylegan2(bare), read_stylegan2(files.checkpoint())
    for part in ("generator", "average", "discriminator"):
        tiny.assert_same(getattr(found, part), getattr(whole, part))


def test_missing_noise_maps_are_drawn_the_same_each_time_and_said():
    found, again = (read_stylegan2({"g_ema": without(files.generator_state(), *NOISE)}) for _ in range(2))
    tiny.assert_same(found.average, again.average)
    assert found.average
    for layer, side in enumerate((4, 8, 8, 16, 16)):
        noise = found.average[f"layers.{layer}.noise"]
        assert noise.shape == (1, 1, side, side)
        assert 0.5 < noise.std() < 1.5
    assert "5 noise maps for g_ema" in found.origin
    assert "noise maps" not in read_stylegan2({"g_ema": files.generator_state()}).origin
    one = read_stylegan2({"g_ema": without(files.generator_state(), NOISE[2])})
    assert "1 noise maps" in one.origin
    assert one.average is not None
    assert torch.equal(one.average["layers.4.noise"], files.generator_state()[NOISE[4]])


@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_the_average_latent_is_that_of_the_file(shape: tuple[int, ...]):
    average = torch.linspace(-1, 1, 5)
    found = read_stylegan2(files.checkpoint(latent_avg=average.view(shape)))
    assert found.average
    assert found.generator
    assert torch.equal(found.average["latent_average"], average)
    assert not torch.equal(found.generator["latent_average"], average)  # of other weights
    assert "latents for g_ema" not in found.origin


def test_a_missing_average_latent_is_the_mean_of_the_mapped_latents():
    found = read_stylegan2({"g_ema": files.generator_state()})
    w = files.mapped(files.generator_state(), torch.randn(100_000, 5, generator=torch.Generator().manual_seed(5)))
    assert found.average
    error = (found.average["latent_average"] - w.mean(0)) / (w.std(0) / 4096**0.5)
    assert error.abs().max() < 5  # standard errors
    assert "average of 4096 latents for g_ema" in found.origin


# The architecture

PUBLISHED = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
HALF = PUBLISHED | {size: width // 2 for size, width in PUBLISHED.items() if size >= 64}


@pytest.mark.parametrize("size", [8, 32, 256, 1024])
@pytest.mark.parametrize("widths", [PUBLISHED, HALF])
@pytest.mark.parametrize("depth", [2, 8])
def test_published_architectures_are_recognised(size: int, widths: dict[int, int], depth: int):
    widths = {side: width for side, width in widths.items() if side <= size}
    with torch.device("meta"):
        state = files.generator_state(widths, dim=512, depth=depth)
    found = read_stylegan2({"g_ema": state, "latent_avg": torch.ones(512)}).config
    base = 16384 if any(widths[side] != PUBLISHED[side] for side in widths) else 32768  # up to 32 px they are one
    assert found == StyleGAN2Config(image_size=size, channel_base=base, mapping_layers=depth)


@pytest.mark.parametrize("base", [96, 100, 37, 5000])
@pytest.mark.parametrize("limit", [5, 8, 400])
def test_other_widths_are_inferred(base: int, limit: int):
    config = StyleGAN2Config(image_size=32, channel_base=base, max_channels=limit, latent_dim=4, mapping_layers=1)
    widths = {side: config.width(side) for side in config.resolutions}
    with torch.device("meta"):
        state = files.generator_state(widths, dim=4, depth=1)
    found = read_stylegan2({"g_ema": state, "latent_avg": torch.ones(4)}).config
    assert {side: found.width(side) for side in found.resolutions} == widths


def test_an_override_wins_and_an_unknown_one_names_the_nearest():
    generator, _ = load_stylegan2(files.checkpoint(), reduced_resolutions=2)
    assert generator.config.reduced_resolutions == 2
    tiny.refusal(lambda: load_stylegan2(files.checkpoint(), mapping_layer=2), "mapping_layer", "mapping_layers")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"image_size": 32}, ("missing keys", "layers.5.bias")),
        ({"mapping_layers": 2}, ("unknown keys", "mapper.2.bias")),
        ({"channel_base": 64}, ("differing keys", "layers.4.bias (6,) for (4,)")),
    ],
)
def test_an_override_that_does_not_fit_lists_the_keys(overrides: dict[str, Any], words: tuple[str, ...]):
    tiny.refusal(lambda: load_stylegan2(files.checkpoint(), **overrides), "does not fit the network", *words)


# What is refused


@pytest.mark.parametrize(("told", "group"), [(8, 8), (None, 0), (4, 4)])
def test_groups_of_the_discriminator_are_those_of_the_file(tmp_path: Path, told: int | None, group: int):
    state = nvlabs_files.nvlabs_state(files.generator_state(), torch.zeros(files.DIM))
    judge = nvlabs_files.nvlabs_discriminator(files.discriminator_state())
    networks = {
        "G_ema": nvlabs_files.network("Generator", state),
        "D": nvlabs_files.network("Discriminator", judge, epilogue_kwargs={"mbstd_group_size": told}),
    }
    path = nvlabs_files.dump(networks, tmp_path / "network.pkl")
    discriminator = load_stylegan2(path)[1]
    assert discriminator is not None
    assert discriminator.config.mbstd_group_size == group
    x = torch.randn(8, 3, 16, 16)
    size = group or 8  # shown to the last convolution, and computed here in float64 image by image
    seen: list[torch.Tensor] = []
    discriminator.final_conv.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    discriminator(x)
    maps = seen[0][:, :-1].double()
    for number, image in enumerate(seen[0][:, -1]):
        members = maps[number % (8 // size) :: 8 // size]
        deviation = ((members - members.mean(0)).square().mean(0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(image.double(), deviation.expand_as(image), rtol=1e-5, atol=1e-7)


# Writing


def test_a_written_file_equals_the_read_one(tmp_path: Path):
    average = torch.linspace(-1, 1, 5)
    content = files.checkpoint(latent_avg=average)
    found = read_stylegan2(content)
    assert found.average
    assert found.generator
    save_rosinality(tmp_path / "a.pt", found.config, found.average, found.generator, found.discriminator)

    written = torch.load(tmp_path / "a.pt", weights_only=True)
    assert written.keys() == {"g", "g_ema", "d", "latent_avg"}
    tiny.assert_same(written, {name: content[name] for name in written})


def test_weights_of_a_network_of_ours_are_written_without_what_they_are_views_of(tmp_path: Path):
    generator = StyleGAN2Generator(CONFIG)  # in channels_last memory
    state = {name: torch.stack([value] * 50)[3] for name, value in generator.state_dict().items()}
    save_rosinality(tmp_path / "a.pt", CONFIG, state, state, None)
    assert (tmp_path / "a.pt").stat().st_size < 10 * sum(4 * value.numel() for value in state.values())
    tiny.assert_same(read_stylegan2(tmp_path / "a.pt").average, {**generator.state_dict()})


def test_weights_that_do_not_fit_are_not_written(tmp_path: Path):
    state = dict(StyleGAN2Generator(CONFIG).state_dict())
    del state["const"]
    tiny.refusal(lambda: save_rosinality(tmp_path / "a.pt", CONFIG, state, state, None), "1 missing keys (const)")
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.parametrize(
    ("config", "multiplier"),
    [
        (StyleGAN2Config(256, 32768), 2), (StyleGAN2Config(256, 16384), 1), (StyleGAN2Config(32, 16384), 2),
        (StyleGAN2Config(256, 8192), None), (CONFIG, None), (StyleGAN2Config(64, 32768, max_channels=256), None),
    ],
)  # fmt: skip
def test_which_widths_the_public_code_builds(config: StyleGAN2Config, multiplier: int | None):
    assert channel_multiplier(config) == multiplier
