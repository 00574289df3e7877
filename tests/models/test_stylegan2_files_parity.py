"""Files that the official StyleGAN2 codes write, and read: their networks and ours compute the same."""

import pickle
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from os import environ
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from official_code import official
from torch import Tensor, nn

from tenshot.models.pretrained import load_stylegan2, read_stylegan2, save_rosinality
from tenshot.models.stylegan2 import StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator

Import = Callable[[str, str], ModuleType]
SMALL = {"size": 8, "style_dim": 16, "n_mlp": 3}  # with as many channels as that code always has


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """Fresh biases and noise strengths are 0 and would agree vacuously."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def assert_close(ours: Tensor, theirs: Tensor, within: float) -> None:
    assert theirs.abs().max() > 1e-2
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < within, f"relative error {error:.2e}"


def latents(length: int) -> Tensor:
    return torch.randn(3, length, generator=torch.Generator().manual_seed(7))


def images(size: int) -> Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(3))


def drawn(generator: StyleGAN2Generator, psi: float) -> Tensor:
    w = generator.truncate(generator.mapping(latents(generator.config.latent_dim)), psi)
    return generator.synthesis(generator.broadcast(w), noise="fixed")


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[Import]:
    """Imports a module of a checkout whose modules import each other by bare names; afterwards they are gone.

    What these codes compile when imported, they do not use on the CPU.
    """
    before, folders = set(sys.modules), []
    monkeypatch.setattr("torch.utils.cpp_extension.load", lambda *arguments, **options: SimpleNamespace())

    def load(variable: str, module: str) -> ModuleType:
        if variable in environ:
            folders.append(environ[variable])
            monkeypatch.syspath_prepend(environ[variable])
        return official(variable, module)

    yield load
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(tuple(folders)):
            del sys.modules[name]


@torch.no_grad()
@pytest.mark.parametrize("variable", ["STYLEGAN2_PYTORCH", "CDC"])
def test_a_file_of_rosinalitys_code(imported: Import, tmp_path: Path, variable: str):
    imported("STYLEGAN2_PYTORCH", ".model")  # CDC's copies of its operations have no form for the CPU
    model = imported(variable, ".model")
    torch.manual_seed(0)  # of the buffers that are drawn
    generator, average = (randomised(model.Generator(**SMALL), seed) for seed in (0, 1))
    judge = randomised(model.Discriminator(8), 2)
    wrapped = nn.DataParallel(average) if variable == "CDC" else average
    content = {"g": generator.state_dict(), "g_ema": wrapped.state_dict(), "d": judge.state_dict()}
    torch.save(content | {"args": Namespace(size=8), "ada_aug_p": 0.0}, tmp_path / "000010.pt")

    ours, our_judge = load_stylegan2(tmp_path / "000010.pt")
    truncated = {"truncation": 0.7, "truncation_latent": ours.latent_average[None]}
    theirs = average([latents(16)], randomize_noise=False, **truncated)[0]
    assert_close(drawn(ours, 0.7), theirs, within=1e-5)
    assert our_judge is not None
    answers = judge(images(8))
    answers = answers[0] if isinstance(answers, tuple) else answers  # CDC's returns its features too
    assert_close(our_judge(images(8)), answers[:, 0], within=1e-5)


@torch.no_grad()
def test_rosinalitys_code_reads_our_files_strictly(imported: Import, tmp_path: Path):
    model = imported("STYLEGAN2_PYTORCH", ".model")
    config = StyleGAN2Config(image_size=8, latent_dim=16, mapping_layers=3)
    ours, raw = (randomised(StyleGAN2Generator(config), seed) for seed in (0, 1))
    our_judge = randomised(StyleGAN2Discriminator(config), 2)
    save_rosinality(tmp_path / "a.pt", config, ours.state_dict(), raw.state_dict(), our_judge.state_dict())

    content = torch.load(tmp_path / "a.pt")
    theirs, judge = model.Generator(**SMALL), model.Discriminator(8)
    for part, our_generator in (("g", raw), ("g_ema", ours)):
        theirs.load_state_dict(content[part])
        assert isinstance(our_generator, StyleGAN2Generator)
        assert_close(drawn(our_generator, 1.0), theirs([latents(16)], randomize_noise=False)[0], within=1e-5)
    judge.load_state_dict(content["d"])
    assert_close(our_judge(images(8)), judge(images(8))[:, 0], within=1e-5)


@torch.no_grad()
def test_mixdls_discriminator_with_its_projection(imported: Import):
    model = imported("MIXDL", ".model_cdc")
    judge = randomised(model.Patch_Discriminator(8), 2)
    generator = model.Generator(**SMALL)
    found = read_stylegan2({"g_ema": generator.state_dict(), "d": judge.state_dict()})
    assert found.projection is not None
    assert torch.equal(found.projection["weight"], judge.sim_linear.weight)
    our_judge = StyleGAN2Discriminator(found.config)
    assert found.discriminator is not None
    our_judge.load_state_dict(dict(found.discriminator))
    assert_close(our_judge(images(8)), judge(images(8), flag=1)[0][:, 0], within=1e-5)


@pytest.fixture
def nvlabs(imported: Import) -> SimpleNamespace:
    """Its networks and its dictionary, under the names that its pickles hold."""
    imported("STYLEGAN2_ADA", ".legacy")  # skips without a checkout
    from dnnlib import EasyDict
    from training import networks

    return SimpleNamespace(networks=networks, EasyDict=EasyDict)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"num_fp16_res": 2, "conv_clamp": 256}])
def test_a_pickle_of_nvlabs_code(nvlabs: SimpleNamespace, tmp_path: Path, options: dict[str, Any]):
    widths = {"channel_base": 256, "channel_max": 16} | options
    built = {"img_resolution": 32, "img_channels": 3, "c_dim": 0}
    shape = nvlabs.EasyDict(synthesis_kwargs=widths, mapping_kwargs=nvlabs.EasyDict(num_layers=2))
    generator, average = (
        randomised(nvlabs.networks.Generator(z_dim=24, w_dim=24, **built, **shape), seed) for seed in (0, 1)
    )
    average.mapping.w_avg.normal_(generator=torch.Generator().manual_seed(5))
    judge = randomised(nvlabs.networks.Discriminator(**built, **widths), 2)
    content = {"G": generator, "D": judge, "G_ema": average, "augment_pipe": None}
    content["training_set_kwargs"] = nvlabs.EasyDict(path="data", use_labels=False)
    (tmp_path / "network.pkl").write_bytes(pickle.dumps(content))

    ours, our_judge = load_stylegan2(tmp_path / "network.pkl")
    assert ours.config == StyleGAN2Config(32, 256, 16, latent_dim=24, mapping_layers=2)
    theirs = average(latents(24), None, truncation_psi=0.7, noise_mode="const", force_fp32=True)
    assert_close(drawn(ours, 0.7), theirs, within=1e-4)
    assert our_judge is not None
    assert_close(our_judge(images(32)), judge(images(32), None, force_fp32=True)[:, 0], within=1e-4)
