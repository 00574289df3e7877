"""LoRA and norms alone, on the networks themselves."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import tiny
import tiny_piti
import torch
from torch import Tensor, nn

from tenshot.errors import InputError
from tenshot.models import Adaptation, StyleGAN2Discriminator, StyleGAN2Generator
from tenshot.models import adaptation as module_of_adaptation
from tenshot.models.adaptation import LowRank, merged

LORA = Adaptation(rank=2, alpha=3.0)


def filled(network: nn.Module, seed: int = 0) -> nn.Module:
    """All weights random, so that nothing agrees vacuously."""
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.data.normal_(generator=generator).div_(max(1, weight[0].numel()) ** 0.5 if weight.dim() > 1 else 4)
    return network


def unet() -> tuple[nn.Module, tuple[Any, ...]]:
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return tiny.ddpm(unet=tiny.unet_config(num_classes=3)).unet, (images, torch.tensor([3, 700]), torch.tensor([0, 2]))


def piti() -> tuple[nn.Module, tuple[Any, ...]]:
    network = tiny_piti.piti(piti=tiny_piti.CONFIG).unet
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    condition = network.prepare(network.null_condition(2))
    rest = (None, None, None, None, condition["pooled"].detach(), condition["context_kv"].detach())
    return network, (images, torch.tensor([3, 700]), *rest)


def generator() -> tuple[nn.Module, tuple[Any, ...]]:
    network = StyleGAN2Generator(tiny.STYLEGAN2)
    network.forward = lambda w: network.synthesis(network.broadcast(network.mapping(w)), "fixed")  # type: ignore[method-assign]
    return network, (torch.randn(3, tiny.STYLEGAN2.latent_dim, generator=torch.Generator().manual_seed(1)),)


def discriminator() -> tuple[nn.Module, tuple[Any, ...]]:
    return StyleGAN2Discriminator(tiny.STYLEGAN2), (torch.randn(4, 3, 32, 32),)


NETWORKS = {"unet": unet, "piti": piti, "generator": generator, "discriminator": discriminator}
Build = Callable[[], tuple[nn.Module, tuple[Any, ...]]]


@pytest.mark.parametrize(("build", "bf16"), list(product(NETWORKS.values(), (False, True))))
def test_at_first_the_output_is_that_of_the_network_to_the_last_bit(build: Build, bf16: bool):
    network, given = build()
    filled(network).eval()
    before, strides = dict(network.state_dict()), {n: w.stride() for n, w in network.named_parameters()}
    with torch.autocast("cpu", enabled=bf16):
        expected = network(*given).detach()
        LORA.apply(network)
        found = network(*given)
    assert torch.equal(found, expected)
    assert found.requires_grad
    assert expected.abs().max() > 1e-3
    tiny.assert_same(merged(network.state_dict(), LORA.factor), before)
    for name, stride in strides.items():  # the memory format decides which kernels run
        layer, _, last = name.rpartition(".")
        value = getattr(network.get_submodule(layer), last)
        assert all(ours == its for ours, its, side in zip(value.stride(), stride, value.shape, strict=True) if side > 1)


@pytest.mark.parametrize("build", NETWORKS.values())
def test_the_gradients_of_both_factors_are_projections_of_that_of_the_weight(build: Build):
    """W + s B A with the gradient G of the loss by the sum: of B it is s G A^T, of A it is s B^T G."""
    plain, given = build()
    filled(plain).double().eval()
    given = tuple(one.double() if isinstance(one, Tensor) and one.is_floating_point() else one for one in given)
    adapted, _ = build()
    adapted.double().load_state_dict(plain.state_dict())
    LORA.apply(adapted.eval())
    numbers = torch.Generator().manual_seed(2)
    for name, weight in adapted.named_parameters():
        if name.endswith("lora_B"):
            weight.data.normal_(generator=numbers).mul_(0.1)
    plain.load_state_dict(merged(adapted.state_dict(), 1.5))
    outputs = [network(*given) for network in (plain, adapted)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-9, atol=1e-9)
    for output in outputs:
        output.square().mean().backward()
    layers = {name: part for name, part in adapted.named_modules() if isinstance(part, LowRank)}
    assert len(layers) > 10
    for name, part in layers.items():
        gradient = plain.get_parameter(name.replace(".parametrizations.weight.0", ".weight")).grad
        if gradient is None:  # keys and values of the context, which were prepared
            assert ".context_kv." in name or "context_encoder." in name
            continue
        dense, down = gradient.flatten(1), part.lora_A.flatten(1)
        torch.testing.assert_close(part.lora_B.grad, 1.5 * dense @ down.T, rtol=1e-8, atol=1e-12)
        expected = (1.5 * part.lora_B.T @ dense).view_as(part.lora_A)
        torch.testing.assert_close(part.lora_A.grad, expected, rtol=1e-8, atol=1e-12)


def test_under_autocast_the_sum_is_not_rounded():
    plain, given = unet()
    adapted, _ = unet()
    LORA.apply(filled(adapted).eval())
    for name, weight in adapted.named_parameters():
        if name.endswith("lora_B"):
            weight.data.normal_(generator=torch.Generator().manual_seed(3)).mul_(0.1)
    plain.eval().load_state_dict(merged(adapted.state_dict(), LORA.factor))
    with torch.autocast("cpu"):
        assert torch.equal(adapted(*given), plain(*given))


def test_what_is_drawn_at_first_is_drawn_on_the_cpu_whatever_the_default_device():
    weight = torch.zeros(4, 3, 3, 3)
    torch.manual_seed(0)
    expected = LowRank(weight, 2, 1.0)
    torch.manual_seed(0)
    with torch.device("meta"):
        found = LowRank(weight, 2, 1.0)
    tiny.assert_same(dict(found.state_dict()), dict(expected.state_dict()))


def trained(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("layer", ["attention", "convolution", "linear"])
def test_layers_by_kind(layer: Any):
    """Every matrix and kernel is of one kind, but for embeddings; each gets rank (rows + columns) new weights."""
    network, _ = unet()
    kinds: dict[str, str] = {}
    for name, part in network.named_modules():
        if isinstance(part, nn.Conv2d | nn.Conv1d | nn.Linear):
            attends = ".attention." in name
            kinds[name] = "attention" if attends else "linear" if isinstance(part, nn.Linear) else "convolution"
    expected = {name for name, kind in kinds.items() if kind == layer}
    sizes = [network.get_parameter(f"{name}.weight").flatten(1).shape for name in expected]
    Adaptation(rank=2, layers=(layer,)).apply(network)
    names = {name.split(".parametrizations")[0] for name in trained(network)}
    assert names == expected
    assert len(expected) > 2
    assert sum(weight.numel() for weight in trained(network).values()) == sum(2 * (rows + cols) for rows, cols in sizes)


def test_a_layer_of_low_rank_gets_no_more_than_that():
    """The convolution to colours has three rows."""
    network, _ = generator()
    Adaptation(rank=64).apply(network)
    assert {name: tuple(w.shape) for name, w in trained(network).items() if name.startswith("to_rgb.0.param")} == {
        "to_rgb.0.parametrizations.weight.0.lora_A": (3, 16, 1, 1),
        "to_rgb.0.parametrizations.weight.0.lora_B": (3, 3),
    }


def test_what_is_added_begins_in_proportion_to_the_weights_that_are_scaled():
    """Where a layer multiplies its weight by c, A is larger by 1 / c: the function is as fast as any other layer's."""
    torch.manual_seed(0)
    plain, equalised = (LowRank(torch.zeros(64, 100), 8, 1.0, scale) for scale in (1.0, 0.1))
    assert plain.lora_A.abs().max().item() == pytest.approx(0.1, rel=0.05)
    assert equalised.lora_A.abs().max().item() == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("build", NETWORKS.values())
def test_norms_are_all_vectors_and_nothing_else(build: Build):
    network, _ = build()
    vectors = {name for name, weight in network.named_parameters() if weight.dim() == 1}
    before = network.state_dict().keys()
    Adaptation("norms").apply(network)
    assert trained(network).keys() == vectors
    assert len(vectors) >= 10
    assert network.state_dict().keys() == before


def test_new_layers_are_trained_whole():
    network, _ = unet()
    Adaptation(rank=2).apply(network, lambda name: name.startswith("class_embedding.") or "stem" in name)
    whole = {name for name in trained(network) if "lora" not in name}
    assert whole == {"class_embedding.weight", "encoder.stem.weight", "encoder.stem.bias"}
    assert not any("stem" in name and "lora" in name for name in trained(network))


def test_drawing_adds_to_each_weight_once(monkeypatch: pytest.MonkeyPatch):
    counted: list[int] = []
    add = module_of_adaptation.plus_low_rank
    monkeypatch.setattr(module_of_adaptation, "plus_low_rank", lambda *given: counted.append(1) or add(*given))
    diffusion, gan = tiny.randomised(tiny.ddpm(unet=tiny.unet_config(**tiny.SMALL))), tiny.gan()
    for module, network in ((diffusion, diffusion.unet), (gan, gan.generator)):
        expected = module.sample(torch.arange(6))
        LORA.apply(network)
        counted.clear()
        assert torch.equal(module.sample(torch.arange(6)), expected)
        layers = sum(isinstance(part, LowRank) for part in network.modules())
        assert layers > 5
        assert len(counted) == layers
        counted.clear()
        module.sample(torch.arange(1))
        assert len(counted) == layers  # nothing is kept till then: the weights may have changed


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rank": 0}, "adapt.rank is 0: choose at least 1"),
        ({"alpha": 0.0}, "adapt.alpha is 0.0: choose more than 0"),
        ({"layers": ["norm"]}, "adapt.layers is ['norm']: choose some of attention, convolution, linear"),
        ({"layers": []}, "adapt.layers is []"),
    ],
)
def test_values_that_cannot_be(values: dict[str, Any], words: str):
    with pytest.raises(InputError) as error:
        Adaptation(**values)
    assert words in str(error.value)
