"""Our StyleGAN2 against the official networks, with their source's channel numbers divided so that a test is short."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from official_code import official
from torch import Tensor, nn

from tenshot.models import PatchHeads, StyleGAN2Config, StyleGAN2Discriminator, StyleGAN2Generator

WIDTH, DIM, DEPTH = 16, 24, 3
Narrow = Callable[[str, str], ModuleType]

_GENERATOR = (
    (r"style\.(\d+)\.", lambda m: f"mapper.{int(m[1]) - 1}."), (r"input\.input", "const"),
    (r"noises\.noise_(\d+)", r"layers.\1.noise"),
    (r"^conv1\.", "layers.0."), (r"^convs\.(\d+)\.", lambda m: f"layers.{int(m[1]) + 1}."),
    (r"^to_rgb1\.", "to_rgb.0."), (r"^to_rgbs\.(\d+)\.", lambda m: f"to_rgb.{int(m[1]) + 1}."),
    (r"conv\.modulation", "style"), (r"\.conv\.weight", ".weight"), (r"\.noise\.weight", ".noise_strength"),
    (r"\.activate\.bias", ".bias"),
)  # fmt: skip
_DISCRIMINATOR = (
    (r"convs\.0\.[01]\.", "from_rgb."), (r"convs\.(\d+)\.(\w+)\.\d\.", lambda m: f"blocks.{int(m[1]) - 1}.{m[2]}."),
    (r"final_conv\.\d", "final_conv"), (r"final_linear\.0", "final_linear"), (r"final_linear\.1", "output"),
    (r"new_conv\.(\d)\.\d\.", r"heads.\1."),
)  # fmt: skip


def renamed(values: dict[str, Tensor], table: tuple[Any, ...]) -> dict[str, Tensor]:
    """Weights (or their gradients) under our names and in our shapes."""
    out = {}
    for name, value in values.items():
        if name.endswith("kernel"):
            continue
        for theirs, ours in table:
            name = re.sub(theirs, ours, name)
        if value.dim() == 5:
            value = value[0]
        out[name] = value.flatten() if name.endswith("bias") else value
    return out


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Narrow:
    """Run a file of a checkout with 16 channels in place of 512, and its other widths divided by 16."""

    def load(variable: str, file: str) -> ModuleType:
        path = os.environ.get(variable)
        if not path:
            pytest.skip(f"set {variable} to a checkout of the official repository to run this comparison")
        # on the CPU they do not use what they would compile
        monkeypatch.setattr("torch.utils.cpp_extension.load", lambda *_, **__: SimpleNamespace())
        bias_act, resampling, convolutions = (
            official("STYLEGAN2_PYTORCH", f"op.{name}") for name in ("fused_act", "upfirdn2d", "conv2d_gradfix")
        )
        operations = ModuleType("op")
        operations.FusedLeakyReLU = bias_act.FusedLeakyReLU  # type: ignore[attr-defined]
        operations.fused_leaky_relu = bias_act.fused_leaky_relu  # type: ignore[attr-defined]
        operations.upfirdn2d = resampling.upfirdn2d  # type: ignore[attr-defined]
        operations.conv2d_gradfix = convolutions  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "op", operations)
        torch.manual_seed(0)  # of the weights: small logits of large sums have large relative errors
        source = re.sub(r"\b512(?=[,)])|(?<=== )512", str(WIDTH), Path(path, file).read_text())
        source = re.sub(r"(\d+) \* channel_multiplier", lambda m: str(int(m[1]) // 16), source)
        module = ModuleType(f"narrow_{variable.lower()}")
        exec(compile(source, file, "exec"), vars(module))
        return module

    return load


def config(size: int) -> StyleGAN2Config:
    return StyleGAN2Config(size, channel_base=64 * WIDTH, max_channels=WIDTH, latent_dim=DIM, mapping_layers=DEPTH)


def randomised(network: nn.Module) -> nn.Module:
    """Fresh biases and noise strengths are 0 and would agree vacuously."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def generators(model: ModuleType, size: int) -> tuple[nn.Module, StyleGAN2Generator]:
    theirs = randomised(model.Generator(size, DIM, DEPTH))
    ours = StyleGAN2Generator(config(size))
    average = torch.randn(DIM)
    ours.load_state_dict(renamed(theirs.state_dict(), _GENERATOR) | {"latent_average": average})
    return theirs, ours


def discriminators(theirs: nn.Module, size: int) -> tuple[nn.Module, StyleGAN2Discriminator]:
    ours = StyleGAN2Discriminator(config(size))
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("sim_linear")}
    ours.load_state_dict(renamed(state, _DISCRIMINATOR))
    return theirs, ours


def assert_close(ours: Tensor, theirs: Tensor, within: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 1e-3
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < within, f"relative error {error:.2e}"


def random_images(size: int, count: int = 4) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def outputs_of(network: nn.Module, kinds: tuple[type, ...]) -> list[Tensor]:
    """Filled, when the network runs, with what its layers of these kinds return."""
    seen: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    return seen


@torch.no_grad()
@pytest.mark.parametrize("variable", ["STYLEGAN2_PYTORCH", "CDC", "MIXDL"])
@pytest.mark.parametrize("size", [8, 64])
def test_generator(narrow: Narrow, variable: str, size: int):
    model = narrow(variable, "model_cdc.py" if variable == "MIXDL" else "model.py")
    theirs, ours = generators(model, size)
    z1, z2 = torch.randn(2, 3, DIM)
    w1, w2 = ours.mapping(z1), ours.mapping(z2)
    assert_close(w1, theirs.style(z1))

    seen = outputs_of(theirs, (model.StyledConv,))
    image, features = ours.synthesis(ours.broadcast(w1), "fixed", features=True)
    assert_close(image, theirs([z1], randomize_noise=False)[0])
    assert len(seen) == len(features) == ours.config.num_layers
    for mine, its in zip(features, seen, strict=True):
        assert_close(mine, its)

    maps = [torch.randn(3, *shape) for shape in ours.noise_shapes]
    assert_close(ours.synthesis(ours.broadcast(w1), maps), theirs([z1], noise=maps)[0])
    for cut in range(1, ours.config.num_styles):
        mixed = ours.synthesis(ours.mix(w1, w2, cut), "fixed")
        assert_close(mixed, theirs([z1, z2], inject_index=cut, randomize_noise=False)[0])
    truncated = ours.synthesis(ours.broadcast(ours.truncate(w1, 0.6)), "fixed")
    assert_close(
        truncated,
        theirs([z1], truncation=0.6, truncation_latent=ours.latent_average[None], randomize_noise=False)[0],
    )


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3, 4, 8])
def test_discriminator(narrow: Narrow, batch: int):
    model = narrow("STYLEGAN2_PYTORCH", "model.py")
    theirs, ours = discriminators(randomised(model.Discriminator(64)), 64)
    assert_close(ours(random_images(64, batch)), theirs(random_images(64, batch))[:, 0])


@torch.no_grad()
@pytest.mark.parametrize(("variable", "file"), [("CDC", "model.py"), ("MIXDL", "model_mix.py")])
def test_patch_logits(narrow: Narrow, variable: str, file: str):
    """At 256 px, for whose resolutions the published code has its taps."""
    model = narrow(variable, file)
    theirs, ours = discriminators(randomised(model.Patch_Discriminator(256)), 256)
    extra, heads = randomised(model.Extra()), PatchHeads(config(256))
    heads.load_state_dict(renamed(extra.state_dict(), _DISCRIMINATOR))
    x = random_images(256, 2)
    for index, side in enumerate((32, 32, 16, 16)):
        logits = heads(ours, x, index)
        assert logits.shape == (2, 1, side, side)
        assert_close(logits, theirs(x, extra=extra, flag=1, p_ind=index)[0])
    assert_close(ours(x), theirs(x, flag=0)[0][:, 0])


@torch.no_grad()
@pytest.mark.parametrize("file", ["model_cdc.py", "model_mix.py"])
def test_mixdls_penultimate(narrow: Narrow, file: str):
    model = narrow("MIXDL", file)
    theirs, ours = discriminators(randomised(model.Patch_Discriminator(32)), 32)
    hidden: list[Tensor] = []
    theirs.final_linear[0].register_forward_hook(lambda _module, _inputs, out: hidden.append(out))
    theirs(random_images(32), flag=1 if file == "model_cdc.py" else 0)
    assert_close(ours.penultimate(random_images(32)), hidden[0])


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def assert_same_gradients(ours: nn.Module, expected: dict[str, Tensor]) -> None:
    mine = gradients(ours)
    assert mine.keys() <= expected.keys()
    for name, value in expected.items():
        if value.any():
            assert (mine[name] - value).abs().max() < 1e-4 * value.abs().max(), name
        else:  # what is linear in a parameter has no second derivative
            assert name not in mine or not mine[name].any(), name


def test_gradients_of_r1(narrow: Narrow):
    model = narrow("STYLEGAN2_PYTORCH", "model.py")
    theirs, ours = discriminators(randomised(model.Discriminator(32)), 32)
    for network in (theirs, ours):
        x = random_images(32).requires_grad_()
        logits = network(x)
        (grad,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        (grad.square().sum((1, 2, 3)).mean() + 0 * logits.sum()).backward()
    assert_same_gradients(ours, renamed(gradients(theirs), _DISCRIMINATOR))


def test_gradients_of_path_length(narrow: Narrow):
    model = narrow("STYLEGAN2_PYTORCH", "model.py")
    theirs, ours = generators(model, 32)
    z = torch.randn(2, DIM)
    direction = torch.randn(2, 3, 32, 32) / 32

    def penalise(image: Tensor, styles: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad((image * direction).sum(), styles, create_graph=True)
        lengths = grad.square().sum(2).mean(1).sqrt()
        (lengths - 0.5).square().mean().backward()
        return lengths.detach()

    their_lengths = penalise(*theirs([z], return_latents=True, randomize_noise=False))
    styles = ours.broadcast(ours.mapping(z))
    assert_close(penalise(ours.synthesis(styles, "fixed"), styles), their_lengths)
    assert_same_gradients(ours, renamed(gradients(theirs), _GENERATOR))
