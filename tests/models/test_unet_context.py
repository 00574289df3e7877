"""The U-Net with a context in its attention, as GLIDE has: against plain attention in float64, and what it refuses."""

import math
from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor, nn

from tenshot.lightning_modules.data_checks import check_images
from tenshot.models import UNet, UNetClassifier, UNetConfig
from tenshot.models.blocks import Attention

CONTEXT = tiny.unet_config(context_channels=6)


def awake(config: UNetConfig = CONTEXT) -> UNet:
    torch.manual_seed(1)
    network = UNet(config)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
    return network.eval()


def inputs(batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "x": torch.randn(batch, 3, 16, 16, generator=generator),
        "t": torch.tensor([3, 700])[:batch],
        "context": torch.randn(batch, 6, 5, generator=generator),
        "pooled": torch.randn(batch, 6, generator=generator),
    }


def plain_attention(layer: Attention, x: Tensor, context: Tensor) -> Tensor:
    """One softmax over tokens and pixels, head by head and query by query, in float64."""
    n, c, h, w = x.shape
    d = c // layer.num_heads
    state = {name: value.double() for name, value in layer.state_dict().items()}
    normed = nn.functional.group_norm(x.double(), 32, state["norm.weight"], state["norm.bias"])
    qkv = torch.einsum("oc,nchw->nohw", state["qkv.weight"][..., 0, 0], normed).flatten(2) + state["qkv.bias"][:, None]
    kv = torch.einsum("oc,ncl->nol", state["context_kv.weight"][..., 0], context.double())
    kv = kv + state["context_kv.bias"][:, None]
    out = torch.zeros(n, c, h * w, dtype=torch.float64)
    for head in range(layer.num_heads):
        rows = slice(head * d, (head + 1) * d)
        if layer.order == "legacy":  # q, k, v of the first head, then those of the second
            q, k, v = qkv[:, 3 * head * d : 3 * (head + 1) * d].split(d, dim=1)
            ck, cv = kv[:, 2 * head * d : 2 * (head + 1) * d].split(d, dim=1)
        else:  # q of all heads, k of all heads, v of all heads
            q, k, v = (part[:, rows] for part in qkv.split(c, dim=1))
            ck, cv = (part[:, rows] for part in kv.split(c, dim=1))
        for query in range(h * w):
            score = torch.cat([(q[:, :, query, None] * keys).sum(1) for keys in (ck, k)], dim=1) / d**0.5
            weight = score.exp() / score.exp().sum(1, keepdim=True)
            out[:, rows, query] = (weight[:, None] * torch.cat([cv, v], dim=2)).sum(2)
    projected = torch.einsum("oc,ncl->nol", state["proj.weight"][..., 0, 0], out) + state["proj.bias"][:, None]
    return x.double() + projected.view(n, c, h, w)


@pytest.mark.parametrize("order", ["legacy", "new"])
def test_attention_is_one_softmax_over_tokens_and_pixels(order):
    torch.manual_seed(0)
    layer = Attention(64, 2, order, context_channels=6)
    nn.init.normal_(layer.proj.weight, std=0.2)
    x, context = torch.randn(2, 64, 2, 3), 3 * torch.randn(2, 6, 4)
    expected = plain_attention(layer, x, context)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, context).double(), expected, atol=1e-5, rtol=1e-5)
        kv = layer.context_kv(context)
        torch.testing.assert_close(layer(x, context_kv=kv).double(), expected, atol=1e-5, rtol=1e-5)


def test_context_and_pooled_vector_are_used_by_each_image_alone_and_tokens_have_no_order():
    network, given = awake(), inputs()
    with torch.no_grad():
        out = network(**given)
        first = network(**{name: value[:1] for name, value in given.items()})
        other_tokens = network(**given | {"context": -given["context"]})
        other_vector = network(**given | {"pooled": -given["pooled"]})
        shuffled = network(**given | {"context": given["context"].flip(2)})
    torch.testing.assert_close(out[:1], first, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shuffled, out, atol=1e-5, rtol=1e-4)
    for other in (other_tokens, other_vector):
        assert (other - out).abs().amax((1, 2, 3)).min() > 1e-3


def test_keys_and_values_of_all_layers_are_projected_once_and_then_given():
    network, given = awake(), inputs()
    calls: list[nn.Module] = []
    layers = [part for part in network.modules() if isinstance(part, nn.Conv1d)]
    for layer in layers:
        layer.register_forward_hook(lambda module, *_: calls.append(module))
    with torch.no_grad():
        out = network(**given)
        calls.clear()
        kv = network.project_context(given.pop("context"))
        for _ in range(3):
            torch.testing.assert_close(network(**given, context_kv=kv), out)
    assert calls == layers
    assert len(layers) == 4  # encoder 1, middle 1, decoder 2
    assert kv.shape == (2, 4 * 2 * 64, 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_weights_for_autocast_changes_no_bit_with_a_context(dtype):
    network, given = awake(), inputs()
    out = []
    for rounded in (False, True):
        if rounded:
            network.round_for_autocast(dtype)
        with torch.no_grad(), torch.autocast("cpu", dtype):
            kv = network.project_context(given["context"])
            out += [network(**given), network(given["x"], given["t"], pooled=given["pooled"], context_kv=kv)]
    assert all(torch.equal(out[0], each) for each in out)
    assert network.encoder.middle[0].attention.context_kv.weight.dtype == dtype
    with torch.no_grad():
        exact = awake()(**given)
    assert 0 < (out[0] - exact).abs().max() < 0.1 * exact.abs().max()


def test_gradients_reach_the_context_and_recomputed_blocks_give_the_same():
    gradients = []
    for recompute in (False, True):
        network = awake(replace(CONTEXT, checkpoint_blocks=recompute)).train()
        given = inputs()
        for name in ("context", "pooled"):
            given[name].requires_grad_()
        network(**given).square().mean().backward()
        gradients.append([given["context"].grad, given["pooled"].grad, *(p.grad for p in network.parameters())])
    assert all(float(gradient.abs().sum()) > 0 for gradient in gradients[0][:2])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_without_context_channels_the_network_is_what_it_was():
    torch.manual_seed(0)
    plain = UNet(tiny.unet_config())
    names = {name for name, _ in UNet(CONTEXT).named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert {name.rsplit(".", 2)[-2] for name in names} == {"context_kv", "context_embedding"}


@pytest.mark.parametrize(
    ("context_channels", "drop", "words"),
    [
        (6, ("context",), ["context_channels=6", "without context, with pooled"]),
        (6, ("pooled",), ["context_channels=6", "with context, without pooled"]),
        (0, (), ["context_channels=0", "with context, with pooled"]),
    ],
)
def test_a_missing_or_unwanted_context_is_one_line(context_channels, drop, words):
    given = {name: value for name, value in inputs().items() if name not in drop}
    network = UNet(tiny.unet_config(context_channels=context_channels))
    tiny.refusal(lambda: network(**given), *words)


def test_context_with_its_keys_and_values_beside_it_is_refused():
    network, given = awake(), inputs()
    kv = network.project_context(given["context"])
    tiny.refusal(lambda: network(**given, context_kv=kv), "context and context_kv")


def test_negative_context_channels_are_one_line():
    tiny.refusal(lambda: tiny.unet_config(context_channels=-1), "unet.context_channels")


def test_a_classifier_with_a_context_is_refused():
    tiny.refusal(lambda: UNetClassifier(CONTEXT), "classifier.context_channels is 6")


def test_data_that_give_no_context_are_refused_before_training():
    tiny.refusal(lambda: check_images(None, CONTEXT, "--model.unet"), "--model.unet.context_channels is 6", "set 0")
