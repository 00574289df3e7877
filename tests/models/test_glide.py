"""GLIDE's and PITI's networks: against plain formulas in float64, their sizes, and how often they encode."""

import copy
import math
from collections.abc import Callable
from typing import Any

import glide_files
import pytest
import tiny
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import resize

from tenshot.models import ConditionConfig, GlideConfig, GlideUNet, PITIConfig
from tenshot.models.glide import TextConfig, TextTransformer
from tenshot.models.pretrained import read_glide

UPSAMPLER: dict[str, Any] = {
    "image_size": 256, "channel_mult": (1, 1, 2, 2, 4, 4), "num_res_blocks": 2, "low_res_channels": 3,
}  # fmt: skip
BOTH = pytest.mark.parametrize("make", [glide_files.glide, glide_files.piti], ids=["glide", "piti"])


@pytest.mark.parametrize(
    ("config", "parameters", "tensors"),
    [
        (GlideConfig(), 385_030_726, 783),
        (GlideConfig(**UPSAMPLER), 398_361_286, 797),
        (PITIConfig(), 338_015_302, 708),
        (PITIConfig(condition_channels=6), 338_020_006, 708),
        (PITIConfig(**UPSAMPLER, condition_channels=1), 351_342_726, 722),
    ],
)
def test_public_networks_have_as_many_weights_and_are_known_by_them(config, parameters, tensors):
    with torch.device("meta"):
        network = GlideUNet(config)
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    assert len(network.state_dict()) == tensors
    layers = [type(part).__name__ for part in network.modules()].count("Attention")
    assert layers == (16 if config.low_res_channels else 22)
    state = glide_files.public(network)
    assert len(state) == tensors
    assert read_glide(state).config == config  # what shapes do not tell is as it is in all public files
    alone = {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}
    assert not alone or read_glide(alone).config == config.condition


# Against plain formulas


def layer_norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return torch.einsum("oi,nli->nlo", state[f"{name}.weight"], x) + state[f"{name}.bias"]


def transformed(x: Tensor, state: dict[str, Tensor], layers: int, heads: int) -> Tensor:
    """Pre-norm blocks, all tokens seeing all; the channels of the joint projection are those of head after head."""
    for number in range(layers):
        block = f"blocks.{number}"
        qkv = linear(layer_norm(x, state, f"{block}.norm1"), state, f"{block}.qkv")
        out = []
        for q, k, v in (part.chunk(3, dim=2) for part in qkv.chunk(heads, dim=2)):
            score = (q @ k.transpose(1, 2) / math.sqrt(q.shape[2])).exp()
            out.append(score / score.sum(2, keepdim=True) @ v)
        x = x + linear(torch.cat(out, dim=2), state, f"{block}.proj")
        h = linear(layer_norm(x, state, f"{block}.norm2"), state, f"{block}.fc1")
        x = x + linear(0.5 * h * (1 + torch.erf(h / math.sqrt(2))), state, f"{block}.fc2")
    return layer_norm(x, state, "norm")


def doubles(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.double() for name, value in network.state_dict().items()}


def test_text_transformer():
    network = tiny.randomised(TextTransformer(TextConfig(length=6, vocabulary=11, width=24, layers=2, heads=3)))
    state, tokens = doubles(network), torch.randint(11, (2, 6))
    mask = torch.tensor([[True] * 6, [True, True, False, False, True, False]])
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
    for row in range(2):
        for place in range(6):
            if not mask[row, place]:
                x[row, place] = state["padding_embedding"][place]
    expected = transformed(x, state, layers=2, heads=3)
    with torch.no_grad():
        context, pooled = network(tokens, mask)
    torch.testing.assert_close(context.double(), expected.transpose(1, 2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pooled.double(), expected[:, 5], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_condition_encoder(channels):
    network = glide_files.condition_encoder(channels=channels, size=16, grid=4, width=24, heads=3)
    state = doubles(network)
    image = torch.randint(256, (2, channels, 16, 16), dtype=torch.uint8)
    x = image.double() / 255 * 2 - 1
    widths = [6, 12, 24]
    assert network.config.widths == widths
    for number in range(3):
        weight, bias = state[f"convs.{number}.weight"], state[f"convs.{number}.bias"]
        assert weight.shape[0] == widths[number]
        x = nn.functional.conv2d(x, weight, bias, stride=2 if number else 1, padding=weight.shape[2] // 2)
        centred = x - x.mean((2, 3), keepdim=True)
        x = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
        x = x * state[f"norms.{number}.weight"][:, None, None] + state[f"norms.{number}.bias"][:, None, None]
        x = torch.where(x > 0, x, 0.2 * x)
    x = nn.functional.conv2d(x, state["conv.weight"], state["conv.bias"], padding=1)
    places, tokens = state["positional_embedding"][0], []
    for row in range(4):
        tokens += [x[:, :, row, column] + places[1 + 4 * row + column] for column in range(4)]
    tokens.append((state["class_token"][0, 0] + places[0]).expand(2, -1))
    expected = transformed(torch.stack(tokens, dim=1), state, layers=2, heads=3)
    with torch.no_grad():
        for form in (image, image.float() / 127.5 - 1):
            context, pooled = network(form)
            torch.testing.assert_close(context.double(), expected[:, :16].transpose(1, 2), atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(pooled.double(), expected[:, 16], atol=2e-5, rtol=1e-4)


# What it draws from


@BOTH
def test_a_fresh_network_outputs_zero_and_an_awake_one_listens_to_its_condition(make):
    network = make()
    given = glide_files.given(network)
    assert not GlideUNet(network.config)(**given).any()
    null = network.null_condition(2)
    with torch.no_grad():
        out = network(**given)
        other = network(**given | {name: value.flip(0) for name, value in glide_files.condition(network).items()})
        without = network(**given | null)
    assert out.shape == (2, 6, 16, 16)
    for different in (other, without):
        assert (different - out).abs().amax((1, 2, 3)).min() > 1e-4  # rounding: 1e-6


def test_no_condition_is_a_white_image_or_a_text_of_padding_alone():
    network = glide_files.piti()
    white = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    assert torch.equal(network.null_condition(2)["condition_image"], white / 127.5 - 1)
    text = glide_files.glide()
    null, given = text.null_condition(1), glide_files.given(text, batch=1)
    assert null["tokens"].tolist() == [[8] * 5]
    assert null["tokens_mask"].tolist() == [[False] * 5]
    with torch.no_grad():  # where nothing is said it does not matter with what tokens
        assert torch.equal(text(**given | null), text(**given | null | {"tokens": given["tokens"]}))


@BOTH
def test_a_condition_is_encoded_once_for_all_evaluations(make):
    network = make()
    given = glide_files.given(network)
    calls = {"encoder": 0, "keys and values": 0}
    network.context_encoder.register_forward_hook(lambda *_: _count(calls, "encoder"))
    for part in network.modules():
        if isinstance(part, nn.Conv1d):
            part.register_forward_hook(lambda *_: _count(calls, "keys and values"))
    with torch.no_grad():
        expected = network(**given)
        assert calls == {"encoder": 1, "keys and values": 4}
        prepared = network.prepare({name: value for name, value in given.items() if name not in ("x", "t")})
        assert network.prepare(prepared).keys() == {"context_kv", "pooled"}
        for _ in range(3):
            torch.testing.assert_close(network(given["x"], given["t"], **prepared), expected)
    assert calls == {"encoder": 2, "keys and values": 8}
    assert all(len(value) == 2 for value in prepared.values())  # a row an image, so that they can be cut and joined


def test_a_condition_in_the_first_convolution_is_as_if_it_were_joined_to_the_image():
    network = glide_files.piti(condition_input=True)
    given = glide_files.given(network)
    small = resize(given["condition_image"].float() / 127.5 - 1, [16, 16], antialias=True)
    joined = copy.deepcopy(network)
    own, beside, both = network.encoder.stem, network.condition_stem, nn.Conv2d(6, 32, 3, padding=1)
    both.weight.data = torch.cat([own.weight.data, beside.weight.data], dim=1)
    both.bias.data = own.bias.data + beside.bias.data
    joined.condition_stem, joined.encoder.stem = None, _Joined(both, small)
    with torch.no_grad():
        expected = joined(**given)
        torch.testing.assert_close(network(**given), expected, atol=1e-5, rtol=1e-4)
        prepared = network.prepare({"condition_image": given["condition_image"]})
        assert prepared["stem_bias"].shape == (2, 32, 16, 16)
        assert network.prepare(prepared) == prepared
        torch.testing.assert_close(network(given["x"], given["t"], **prepared), expected, atol=1e-5, rtol=1e-4)


class _Joined(nn.Module):
    def __init__(self, conv: nn.Conv2d, image: Tensor) -> None:
        super().__init__()
        self.conv, self.image = conv, image

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat([x, self.image], dim=1))


def _count(calls: dict[str, int], name: str) -> None:
    calls[name] += 1


def test_an_upsampler_also_sees_the_small_image():
    network = glide_files.piti(low_res_channels=3)
    given = glide_files.given(network)
    with torch.no_grad():
        out = network(**given)
        prepared = network.prepare({name: given[name] for name in ("low_res", "condition_image")})
        torch.testing.assert_close(network(given["x"], given["t"], **prepared), out)
        assert not torch.allclose(network(**given | {"low_res": -given["low_res"]}), out, atol=1e-3)


@pytest.mark.parametrize("low_res_channels", [0, 3])
def test_inpainting_sees_what_is_known_and_nothing_else(low_res_channels):
    network = glide_files.glide(inpaint=True, low_res_channels=low_res_channels)
    given = glide_files.given(network)
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., :8] = 1
    image = torch.rand(2, 3, 16, 16)
    hidden = torch.where(mask.bool(), image, -image)
    with torch.no_grad():
        out = network(**given, inpaint_image=image, inpaint_mask=mask)
        assert torch.equal(network(**given, inpaint_image=hidden, inpaint_mask=mask), out)
        assert not torch.allclose(network(**given, inpaint_image=-image, inpaint_mask=mask), out, atol=1e-3)
        nothing = network(**given)
        assert torch.equal(network(**given, inpaint_image=image, inpaint_mask=0 * mask), nothing)
        assert not torch.allclose(out, nothing, atol=1e-3)


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_change_little_and_contexts_stay_float32(make, dtype):
    network = make()
    given = glide_files.given(network)
    with torch.no_grad():
        exact = network(**given)
        with torch.autocast("cpu", dtype):
            rough = network(**given)
            context, pooled = network.context_encoder(**glide_files.condition(network))
    assert context.dtype == pooled.dtype == rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.15 * exact.abs().max()


def test_gradients_reach_the_encoder_through_a_frozen_u_net():
    network = glide_files.piti().train()
    for name, weight in network.named_parameters():
        weight.requires_grad_(name.startswith("context_encoder."))
    network(**glide_files.given(network)).square().mean().backward()
    for name, weight in network.named_parameters():
        assert (weight.grad is not None) == name.startswith("context_encoder."), name
        no_effect = name.endswith("conv.bias") or (".convs." in name and name.endswith("bias"))  # a norm follows
        assert weight.grad is None or no_effect or weight.grad.abs().sum() > 0, name


# What it refuses


@pytest.mark.parametrize(
    ("make", "change", "words"),
    [
        (
            glide_files.piti,
            {"condition_image": torch.zeros(2, 1, 32, 32)},
            ["(1, 32, 32)", "(3, 32, 32)", "sketches 1"],
        ),
        (glide_files.piti, {"condition_image": torch.zeros(2, 3, 16, 32)}, ["(3, 16, 32)", "(3, 32, 32)"]),
        (glide_files.piti, {"condition_image": None}, ["draws from condition_image", "nothing"]),
        (glide_files.piti, {"tokens": torch.zeros(2, 5)}, ["draws from condition_image", "tokens"]),
        (glide_files.piti, {"pooled": torch.zeros(2, 32)}, ["condition_image, and what it makes of such"]),
        (glide_files.piti, {"inpaint_mask": torch.zeros(2, 1, 16, 16)}, ["does not inpaint"]),
        (glide_files.glide, {"tokens_mask": None}, ["draws from tokens and tokens_mask", "given tokens"]),
        (glide_files.glide, {"tokens": torch.zeros(2, 4).long()}, ["tokens (2, 4)", "(N, 5)"]),
        (glide_files.glide, {"low_res": torch.zeros(2, 3, 4, 4)}, ["low_res_channels=0", "with low_res"]),
    ],
)
def test_a_condition_that_does_not_fit_is_one_line(make: Callable[[], GlideUNet], change, words):
    network = make()
    tiny.refusal(lambda: network(**glide_files.given(network) | change), *words)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: PITIConfig(condition_size=100), ["condition_size 100", "condition_grid 16"]),
        (lambda: PITIConfig(condition_size=48), ["condition_size 48", "power of two"]),
        (lambda: PITIConfig(condition_channels=0), ["condition_channels"]),
        (lambda: PITIConfig(context_channels=500, condition_heads=5), ["500", "multiple of condition_size", "16"]),
        (lambda: PITIConfig(context_channels=0), ["context_channels"]),
        (lambda: GlideConfig(text_heads=7), ["context_channels 512", "text_heads 7"]),
        (lambda: GlideConfig(text_length=0), ["text_length"]),
        (lambda: PITIConfig.of(GlideConfig(inpaint=True), ConditionConfig()), ["inpaint"]),
        (lambda: PITIConfig.of(GlideConfig(), ConditionConfig(width=256)), ["512", "256 channels"]),
    ],
)
def test_impossible_configurations_are_one_line(build, words):
    tiny.refusal(build, *words)
